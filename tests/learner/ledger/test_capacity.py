"""Peers hold what they report to hold, are served by it, and may be unknown or change."""

from learner.ledger import events as ev
from learner.ledger.groups import GroupState
from learner.ledger.peers import Peers
from tests.learner.ledger.history import History, granted, only


def test_the_actor_with_the_most_room_is_served_first_and_equals_take_turns():
    history = History(groups_per_step=6)
    history.actor("big", capacity=3)
    history.actor("small", capacity=1)
    history.actor("other", capacity=1)
    peers = [peer for peer, _ in granted(history.prompts(*range(6)))]
    assert peers == ["big", "big", "small", "other", "big"]


def test_capacity_is_absolute_and_repeating_it_grants_nothing_more():
    history = History(groups_per_step=9)
    history.prompts(*range(9))
    assert len(granted(history.actor(capacity=2))) == 2
    assert granted(history(ev.CapacityReported("a", 2, 0))) == []
    assert granted(history(ev.CapacityReported("a", 3, 0))) == [("a", 2)]
    assert granted(history(ev.CapacityReported("a", 1, 0))) == []


def test_capacity_counts_completions_that_are_still_to_come():
    history = History(groups_per_step=9, group_size=2)
    history.prompts(*range(9))
    assert len(granted(history.actor(capacity=5))) == 2  # 4 of 5 completions; a third needs 2
    assert granted(history.rollout(0, sample=0)) == [("a", 2)]  # 3 outstanding, room for 2
    assert granted(history.rollout(0, sample=1)) == []  # 4 outstanding


def test_a_group_larger_than_any_capacity_goes_to_an_idle_actor():
    history = History(groups_per_step=9, group_size=8)
    history.prompts(0, 1)
    assert granted(history.actor(capacity=3)) == [("a", 0)]


def test_unknown_peers_are_counted_and_change_nothing():
    history = History()
    history.prompts(0)
    assert history(ev.CapacityReported("x", 5, 0)) == []
    assert history(ev.PeerLost("x")) == []
    assert history.ledger.counts()["unknown_peer"] == 2
    assert history(ev.Progress("x", ())) == []


def test_a_peer_that_comes_back_in_another_role_lost_what_it_had():
    history = History()
    history.prompts(0)
    history.actor()
    assert only(ev.AttemptDiscarded, history(ev.PeerJoined("a", "reward_worker")))
    assert history.state(0) is GroupState.READY


def test_work_is_given_back_once_however_often_it_is_released():
    peers = Peers()
    peers.join("a", "actor")
    peer = peers.get("a")
    assert peer is not None
    peers.give(peer, (0, -1), 3)
    peers.give(peer, (1, -1), 2)
    peers.deliver("a", (0, -1))
    assert (peer.load, peer.outstanding) == (4, {(0, -1): 2, (1, -1): 2})
    for _ in range(2):
        peers.release("a", (0, -1))
        assert (peer.load, peer.outstanding) == (2, {(1, -1): 2})


def test_a_reward_worker_is_served_whatever_version_it_claims_to_hold():
    history = History()
    history.prompts(0)
    history.actor()
    history(ev.PeerJoined("w", "reward_worker"))
    history(ev.CapacityReported("w", 5, policy_version=99))
    assert only(ev.AssignScore, history.rollout(0)) == [ev.AssignScore("w", 0, 1, 0)]
