import urllib.request

import pytest

from protocol.errors import ConfigError
from protocol.messages import Heartbeat
from protocol.own_metrics import own_metrics


def heartbeat():
    return Heartbeat(
        peer="a", state="idle", policy_version=3, capacity=8, metrics={"tokens_sampled": 5.0}
    )


def read(server, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as answer:
        return answer.read().decode()


def test_a_peer_serves_what_its_heartbeats_say():
    with own_metrics("127.0.0.1:0", "actor", heartbeat) as server:
        text = read(server, "/metrics")
        assert "mlxrl_actor_tokens_sampled_total 5.0" in text
        assert "mlxrl_peer_policy_version 3.0" in text
        assert read(server, "/healthz") == "ok\n"


def test_without_an_address_nothing_is_served():
    with own_metrics(None, "actor", heartbeat) as server:
        assert server is None


@pytest.mark.parametrize("address", ["x", "host:", "1:99999", "127.0.0.1:-1"])
def test_what_is_no_address_is_refused(address):
    refused = pytest.raises(ConfigError, match=r"--metrics-address .*wanted \[HOST:\]PORT")
    with refused, own_metrics(address, "actor", heartbeat):
        pass


def test_a_taken_port_names_the_option():
    with own_metrics("0", "actor", heartbeat) as server:
        assert server is not None
        taken = pytest.raises(ConfigError, match=f"{server.port}.*--metrics-address")
        with taken, own_metrics(str(server.port), "actor", heartbeat):
            pass
