import pytest

from learner.exchange.counting import all_counts, idle_shares
from learner.exchange.idleness import Idleness
from learner.exchange.roster import Roster
from protocol.messages import Heartbeat, Hello


@pytest.fixture
def roster():
    return Roster(10.0)


def hear(roster, name, role, **figures):
    member = roster.get(name) or roster.register(
        Hello(role=role, peer=name, host="mac-a", pid=1), connection=1, now=0.0
    )
    said = Heartbeat(peer=name, state="", policy_version=0, capacity=1, metrics=figures)
    roster.heard(member, said, 1, 0.0)


def test_peers_and_the_largest_of_each_role_stand_beside_the_ledgers_counts(roster):
    hear(roster, "a", "actor", peak_rss_bytes=100.0)
    hear(roster, "b", "actor", peak_rss_bytes=300.0)
    counts = all_counts({"trained": 4}, roster)
    assert counts["trained"] == 4
    assert (counts["peers/actor"], counts["peers/reward_worker"]) == (2, 0)
    assert counts["memory/actor/peak_bytes"] == 300
    assert counts["memory/reward_worker/peak_bytes"] == 0
    assert counts["memory/learner/peak_bytes"] > 1e6


def test_idle_shares_are_since_the_last_look(roster):
    # alive 10 s more, busy 4 s more: idle 0.6
    idleness = Idleness()
    hear(roster, "a", "actor", busy_seconds=1.0, alive_seconds=10.0)
    assert idle_shares(roster, idleness) == {}
    hear(roster, "a", "actor", busy_seconds=5.0, alive_seconds=20.0)
    assert idle_shares(roster, idleness) == {"idle/actor": pytest.approx(0.6)}
