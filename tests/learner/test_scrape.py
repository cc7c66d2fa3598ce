import json
import threading
from wsgiref.util import setup_testing_defaults

import pytest

from learner.exchange.view import PeerView, View
from learner.scrape import Scrape
from protocol.metrics import Metrics

ACTOR = PeerView("actor-1", "actor", "mac-b", "idle", 3, 64, 9.5, {"tokens_sampled": 7.0})
GONE = PeerView("actor-0", "actor", "mac-b", "idle", 3, 64, 1.0, {}, lost_at=2.0)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def scrape(metrics, clock):
    view = View(10.0, {}, {"actor-1": ACTOR, "actor-0": GONE})
    return Scrape(metrics, lambda: view, clock)


def get(scrape, path, query="", **environ):
    """Status, headers and text of an answer."""
    said = []
    environ |= {"PATH_INFO": path, "QUERY_STRING": query}
    setup_testing_defaults(environ)
    body = scrape(environ, lambda status, headers: said.append((status, dict(headers))))
    return *said[0], b"".join(body).decode()


def test_metrics_are_the_learners(scrape, metrics):
    metrics.set("mlxrl_step", 7)
    status, _, text = get(scrape, "/metrics")
    assert status == "200 OK"
    assert "mlxrl_step 7.0" in text
    assert "mlxrl_actor_tokens" not in text


def test_a_peers_metrics_are_what_its_heartbeats_said(scrape):
    status, _, text = get(scrape, "/metrics", "peer=actor-1")
    assert status == "200 OK"
    assert "mlxrl_actor_tokens_sampled_total 7.0" in text
    assert "mlxrl_peer_policy_version 3.0" in text
    assert "mlxrl_peer_heartbeat_age_seconds 0.5" in text  # 10.0 - 9.5
    assert "mlxrl_step" not in text


@pytest.mark.parametrize(("peer", "found"), [("actor-0", "was lost"), ("x", "no such peer")])
def test_a_peer_that_is_gone_is_down(scrape, peer, found):
    status, _, text = get(scrape, "/metrics", f"peer={peer}")
    assert status.startswith("503")
    assert found in text


def test_targets_are_at_the_address_that_was_asked(scrape):
    _, headers, text = get(scrape, "/sd", HTTP_HOST="mac-a.local:19560")
    assert headers["Content-Type"] == "application/json"
    assert json.loads(text)[0] == {
        "targets": ["mac-a.local:19560"],
        "labels": {
            "__param_peer": "actor-1",
            "instance": "actor-1",
            "role": "actor",
            "host": "mac-b",
        },
    }
    assert [target["labels"]["instance"] for target in json.loads(text)] == ["actor-1", "actor-0"]


def test_healthz_says_ok(scrape):
    assert get(scrape, "/healthz")[2] == "ok\n"


def test_nobody_is_waited_for_who_does_not_scrape(scrape, clock):
    assert not scrape.wait_for_scrape(60.0)
    get(scrape, "/metrics")
    clock.now += 61.0
    assert not scrape.wait_for_scrape(60.0)


def test_a_peers_scrape_is_no_scrape_of_the_learner(scrape):
    get(scrape, "/metrics", "peer=actor-1")
    assert not scrape.wait_for_scrape(60.0)


def test_the_next_scrape_is_waited_for(scrape, clock):
    get(scrape, "/metrics")
    clock.now += 1.0
    found = []
    waiting = threading.Thread(target=lambda: found.append(scrape.wait_for_scrape(30.0)))
    waiting.start()
    while waiting.is_alive():
        get(scrape, "/metrics")
    assert found == [True]


def test_a_wait_ends_without_a_scrape(scrape, clock):
    get(scrape, "/metrics")
    clock.now += 1.0
    assert not scrape.wait_for_scrape(0.01)


def test_a_scrape_that_began_before_does_not_count(metrics, clock):
    """It may have read the figures before they were the last."""
    began, asked = threading.Event(), threading.Event()
    scrape = Scrape(metrics, View, clock)
    get(scrape, "/metrics")
    clock.now += 1.0
    collect = metrics.collect

    def slow():
        began.set()
        assert asked.wait(30.0)
        return collect()

    metrics.collect = slow
    scraping = threading.Thread(target=lambda: get(scrape, "/metrics"))
    scraping.start()
    assert began.wait(30.0)
    clock.now += 1.0
    asked.set()
    assert not scrape.wait_for_scrape(0.2)
    scraping.join()
