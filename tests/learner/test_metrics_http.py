import socket
import urllib.error
import urllib.request

import pytest

from learner.metrics_http import MetricsServer
from protocol.errors import ConfigError
from protocol.telemetry import Metrics


@pytest.fixture
def served():
    metrics = Metrics()
    server = MetricsServer("127.0.0.1", 0, metrics.registry)
    yield metrics, server
    server.close()


def read(server, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as answer:
        return answer.read().decode()


def test_metrics_show_what_was_counted(served):
    metrics, server = served
    metrics.count("mlxrl_wire_rejected_total", "control", "malformed")
    metrics.set("mlxrl_step", 7)
    text = read(server, "/metrics")
    assert 'mlxrl_wire_rejected_total{channel="control",reason="malformed"} 1.0' in text
    assert "mlxrl_step 7.0" in text


def test_healthz_says_ok_and_other_paths_are_not_found(served):
    _, server = served
    assert read(server, "/healthz") == "ok\n"
    with pytest.raises(urllib.error.HTTPError) as caught:
        read(server, "/etc/passwd")
    assert caught.value.code == 404
    caught.value.close()


def test_a_taken_port_is_named(served):
    _, server = served
    with pytest.raises(ConfigError, match=rf"port {server.port}.*network.http_port"):
        MetricsServer("127.0.0.1", server.port, Metrics().registry)


def test_a_burst_of_connections_waits_for_no_second_knock(served):
    """A full queue drops the first SYN, and the kernel sends the next after a second."""
    _, server = served
    opened = []
    for _ in range(100):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", server.port))
        opened.append(client)
    for client in opened:
        assert client.getpeername()[1] == server.port
        client.close()
    assert read(server, "/healthz") == "ok\n"
