import json
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from learner.exchange.view import PeerView, View
from learner.serving import LAST_SCRAPE_SECONDS, Serving
from protocol.config_file import load_config
from protocol.errors import ConfigError
from protocol.metrics import Metrics

QUICKSTART = Path(__file__).resolve().parents[2] / "configs" / "quickstart.yaml"
PEER = PeerView("actor-1", "actor", "mac-b", "idle", 3, 64, 9.5, {"tokens_sampled": 7.0})


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def serving(tmp_path, metrics, free_port):
    config = load_config(QUICKSTART, [f"network.http_port={free_port}"])
    (tmp_path / "config.yaml").write_text(QUICKSTART.read_text())
    serving = Serving(config, tmp_path, metrics)
    yield serving
    serving.close()


def read(serving, path):
    url = f"http://127.0.0.1:{serving.port}{path}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def test_one_port_has_the_metrics_the_targets_and_the_page(serving, metrics):
    metrics.set("mlxrl_step", 7)
    assert "mlxrl_step 7.0" in read(serving, "/metrics")
    assert read(serving, "/sd") == "[]"
    assert read(serving, "/healthz") == "ok\n"
    assert "<!doctype html>" in read(serving, "/").lower()


def test_peers_are_shown_once_there_is_an_exchange(serving):
    assert json.loads(read(serving, "/api/run"))["peers"] == []
    serving.view = lambda: View(10.0, {"ready": 2.0, "trained": 1.0}, {"actor-1": PEER})
    run = json.loads(read(serving, "/api/run"))
    assert run["groups"]["ready"] == 2
    (peer,) = run["peers"]
    assert (peer["name"], peer["state"], peer["heard_seconds_ago"]) == ("actor-1", "idle", 0.5)
    assert peer["is_connected"]
    assert json.loads(read(serving, "/sd"))[0]["labels"]["instance"] == "actor-1"


def test_a_taken_port_is_named(serving, tmp_path):
    config = load_config(QUICKSTART, [f"network.http_port={serving.port}"])
    with pytest.raises(ConfigError, match=rf"port {serving.port}.*network.http_port"):
        Serving(config, tmp_path, Metrics())


def test_where_nobody_scrapes_the_end_waits_for_nobody(serving, metrics):
    metrics.set("mlxrl_run_active", 1)
    began = time.monotonic()
    serving.close(is_over=True)
    assert time.monotonic() - began < LAST_SCRAPE_SECONDS / 2
    assert metrics.value("mlxrl_run_active") == 0


def test_a_run_that_failed_stays_active_for_who_saw_it_last(serving, metrics):
    metrics.set("mlxrl_run_active", 1)
    serving.close()
    assert metrics.value("mlxrl_run_active") == 1
    with pytest.raises(urllib.error.URLError):
        read(serving, "/healthz")
