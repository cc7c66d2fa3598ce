import time

import pytest

from learner.exchange.roster import Roster
from learner.exchange.showing import SHOW_SECONDS, Showing
from protocol.messages import Hello
from protocol.metrics import Metrics


@pytest.fixture
def roster():
    return Roster(10.0)


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def showing(roster, metrics):
    return Showing(roster, metrics)


def test_what_the_ledger_counts_is_shown_to_both(showing, metrics):
    showing.show({"trained": 4, "ready": 2}, 5.0)
    assert metrics.value("mlxrl_groups_trained_total") == 4
    assert metrics.value("mlxrl_groups", "ready") == 2
    assert showing.view.counts["trained"] == 4
    assert showing.view.taken_at == 5.0


def test_it_is_due_once_a_second(showing):
    showing.show({}, 5.0)
    assert not showing.is_due(5.0 + SHOW_SECONDS - 0.01)
    assert showing.is_due(5.0 + SHOW_SECONDS)


def test_a_lost_peer_is_counted_and_named(showing, roster, metrics):
    member = roster.register(Hello(role="actor", peer="a", host="h", pid=1), connection=1, now=0.0)
    roster.remove("a", 1.0, "its connection ended")
    showing.lost(member, 1.0)
    showing.show({}, 1.0)
    assert metrics.value("mlxrl_peers_lost_total", "actor") == 1
    assert metrics.value("mlxrl_peers", "actor") == 0
    assert showing.view.peers["a"].lost_at == 1.0


def test_nothing_is_shown_after_the_last(showing, metrics):
    showing.show({"trained": 4}, 5.0, is_last=True)
    showing.show({"trained": 5}, 6.0)
    assert metrics.value("mlxrl_groups_trained_total") == 4
    assert showing.view.counts["trained"] == 4


def test_progress_has_its_time(showing, metrics):
    before = time.time()
    showing.worked()
    showing.show({}, 1.0)
    assert before <= metrics.value("mlxrl_last_progress_timestamp_seconds") <= time.time()
