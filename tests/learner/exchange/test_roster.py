"""Who is registered, and when a peer counts as lost; the clock is a number."""

import math
import os

import pytest

from learner.exchange.roster import DISCONNECT_GRACE_SECONDS, Left, Roster
from protocol.messages import Heartbeat, Hello, Role
from protocol.process import this_host

SILENCE = 10.0


def hello(name="actor-1", role: Role = "actor"):
    return Hello(role=role, peer=name, host="here", pid=1)


def heartbeat(name="actor-1", state="generating", metrics=None):
    return Heartbeat(
        peer=name, state=state, policy_version=0, capacity=1, metrics=metrics or {"tokens": 3.0}
    )


@pytest.fixture
def roster():
    return Roster(SILENCE)


def test_a_registered_peer_is_found_by_name_and_by_socket_identity(roster):
    member = roster.register(hello(), connection=5, now=0.0)
    assert roster.get("actor-1") is roster.find(b"actor-1") is member
    assert member.routing_id == b"actor-1"
    assert len(roster) == 1
    for unknown in (b"actor-2", b"", b"\xff\xfe"):
        assert roster.find(unknown) is None
    assert roster.remove("actor-1", 7.0, "it left") is member
    assert roster.last_left("actor") == Left(7.0, "it left")
    assert roster.last_left("reward_worker") is None
    assert roster.remove("actor-1", 8.0, "again") is None
    assert roster.last_left("actor") == Left(7.0, "it left")
    assert len(roster) == 0


def test_peers_are_listed_by_role(roster):
    for said in (hello("a", "actor"), hello("w", "reward_worker"), hello("b", "actor")):
        roster.register(said, connection=1, now=0.0)
    assert [member.name for member in roster.of("actor")] == ["a", "b"]
    assert [member.name for member in roster.of("reward_worker")] == ["w"]
    seen = []
    roster.each(lambda member: seen.append(member.name) or roster.remove(member.name, 0.0, ""))
    assert seen == ["a", "w", "b"]
    assert len(roster) == 0


def test_a_broken_connection_is_forgiven_for_a_moment(roster):
    member = roster.register(hello(), connection=5, now=0.0)
    roster.disconnected(5, now=3.0)
    assert roster.remove_lost(3.0 + DISCONNECT_GRACE_SECONDS - 0.01) == []
    lost = roster.remove_lost(3.0 + DISCONNECT_GRACE_SECONDS)
    assert lost == [(member, "its connection ended")]
    assert len(roster) == 0


@pytest.mark.parametrize("by_hello", [True, False])
def test_a_peer_that_connects_again_in_time_stays(roster, by_hello):
    roster.register(hello(), connection=5, now=0.0)
    roster.disconnected(5, now=3.0)
    if by_hello:
        roster.register(hello(), connection=8, now=3.5)
    else:
        member = roster.get("actor-1")
        assert member is not None
        roster.heard(member, heartbeat(), connection=8, now=3.5)
    assert roster.remove_lost(3.5 + SILENCE - 0.01) == []
    roster.disconnected(5, now=4.0)  # word of the old connection's end, late
    assert roster.remove_lost(3.5 + SILENCE - 0.01) == []
    roster.disconnected(8, now=5.0)
    assert len(roster.remove_lost(6.0)) == 1


def test_the_end_of_one_connection_takes_no_other_peer_with_it(roster):
    roster.register(hello("a"), connection=5, now=0.0)
    roster.register(hello("b"), connection=6, now=0.0)
    roster.disconnected(5, now=1.0)
    assert [member.name for member, _ in roster.remove_lost(2.0)] == ["a"]
    assert roster.get("b") is not None


def test_a_silent_peer_is_lost_and_a_heartbeat_starts_its_time_again(roster):
    member = roster.register(hello(), connection=5, now=0.0)
    roster.heard(member, heartbeat(), connection=5, now=4.0)
    assert roster.remove_lost(13.9) == []
    assert roster.remove_lost(14.0) == [(member, "silent for 10 s")]
    assert roster.last_left(member.role) == Left(14.0, "silent for 10 s")


def test_a_heartbeat_says_what_a_peer_does(roster):
    member = roster.register(hello(), connection=5, now=0.0)
    assert (member.state, member.metrics) == ("", {})
    roster.heard(member, heartbeat(), connection=5, now=1.0)
    assert (member.state, member.metrics, member.heard_at) == ("generating", {"tokens": 3.0}, 1.0)


def test_a_figure_that_is_not_finite_is_not_kept(roster):
    member = roster.register(hello(), connection=5, now=0.0)
    odd = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 2.0}
    roster.heard(member, heartbeat(metrics=odd), connection=5, now=1.0)
    assert member.metrics == {"d": 2.0}


def test_a_peer_in_the_learners_own_process_is_on_no_host():
    roster = Roster(10.0)
    own = Hello(role="actor", peer="own", host=this_host(), pid=os.getpid())
    roster.register(own, 1, 0.0)
    assert roster.hosts("actor") == frozenset()
    beside = Hello(role="actor", peer="beside", host=this_host(), pid=os.getpid() + 1)
    roster.register(beside, 2, 0.0)
    elsewhere = Hello(role="actor", peer="elsewhere", host="mac-b", pid=os.getpid())
    roster.register(elsewhere, 3, 0.0)
    assert roster.hosts("actor") == {this_host(), "mac-b"}
    assert roster.hosts("reward_worker") == frozenset()
