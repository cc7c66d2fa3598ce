"""Leases: granted, renewed, ended by a deadline, a loss or a failure."""

from learner.ledger import events as ev
from learner.ledger.groups import GroupState
from tests.learner.ledger.history import LEASE, History, granted, only, reason_of


def test_a_lease_without_progress_ends_exactly_at_its_deadline():
    history = History(group_size=2, groups_per_step=1)
    history.prompts(0)
    history.actor()
    history.rollout(0, sample=1, runs=((0, 3),))
    assert history.tick(LEASE - 0.001) == []
    actions = history.tick(0.001)
    assert actions[:2] == [
        ev.CancelLease("a", 0, 1, "deadline"),
        ev.AttemptDiscarded(0, 1, "deadline", (3,)),
    ]
    assert only(ev.GrantLease, actions) == [ev.GrantLease("a", 0, 2, "train", 2, 0)]


def test_a_new_attempt_counts_its_progress_from_nothing():
    history = History(groups_per_step=1)
    history.prompts(0)
    history.actor()
    history(ev.Progress("a", ((0, 1, 100),)))
    history.tick(LEASE)
    history.now += 50.0
    history(ev.Progress("a", ((0, 2, 1),)))
    assert history.tick(LEASE - 0.1) == []


def test_only_growing_progress_renews_a_lease():
    history = History(groups_per_step=1)
    history.prompts(0)
    history.actor()
    history.now = 50.0
    assert history(ev.Progress("a", ((0, 1, 7),))) == []
    history.now = 100.0
    assert history(ev.Progress("a", ((0, 1, 7),))) == []
    assert history.tick(9.9) == []
    assert only(ev.AttemptDiscarded, history.tick(0.1))


def test_progress_on_a_lease_that_is_not_held_is_cancelled():
    history = History()
    history.actor("b")
    history.prompts(0)
    for peer, group_id, attempt in (("x", 0, 1), ("b", 0, 2), ("b", 5, 1)):
        actions = history(ev.Progress(peer, ((group_id, attempt, 1),)))
        assert actions == [ev.CancelLease(peer, group_id, attempt, "not_held")]
    assert history(ev.Progress("b", ((0, 1, 1),))) == []


def test_a_lost_actors_groups_go_back_whole_to_others():
    history = History(groups_per_step=2, group_size=2)
    history.prompts(0, 1)
    history.actor("a")
    history.worker()
    history.rollout(0, sample=0)
    history.rollout(1, sample=0)
    history.rollout(1, sample=1)
    history.actor("b")
    actions = history(ev.PeerLost("a"))
    assert actions == [
        ev.AttemptDiscarded(0, 1, "actor_lost", (2,)),
        ev.GrantLease("b", 0, 2, "train", 2, 0),
    ]
    assert history.state(1) is GroupState.SCORING  # all its rollouts were in
    assert reason_of(history.rollout(0, sample=1)) == (False, "stale_attempt")
    history.score(0)
    assert history.ledger.counts()["rejected/stale_attempt"] == 2


def test_an_actor_that_joins_again_keeps_its_leases():
    history = History()
    history.prompts(0)
    history.actor()
    assert history(ev.PeerJoined("a", "actor")) == []
    assert reason_of(history.rollout(0)) == (True, "")


def test_a_group_is_dropped_after_its_last_attempt():
    history = History(max_attempts=2)
    history.prompts(0)
    history.actor()
    assert granted(history(ev.LeaseFailed("a", 1, 0, 1, "too long"))) == [("a", 0)]
    actions = history(ev.LeaseFailed("a", 1, 0, 2, "too long"))
    assert actions[:2] == [
        ev.AttemptDiscarded(0, 2, "failed", (), "too long"),
        ev.GroupDropped(0, "attempts"),
    ]
    assert history.ledger.group(0) is None
    assert history.ledger.counts()["dropped/attempts"] == 1


def test_only_the_holder_can_fail_a_lease_of_this_epoch():
    history = History()
    history.prompts(0)
    history.actor()
    for peer, epoch, attempt in (("b", 1, 1), ("a", 0, 1), ("a", 1, 2)):
        assert history(ev.LeaseFailed(peer, epoch, 0, attempt, "")) == []
    assert history.state(0) is GroupState.LEASED
    assert history.ledger.counts()["fenced"] == 1
    assert history.ledger.counts()["rejected/lease_failed"] == 2


def test_an_actor_that_claims_endless_tokens_loses_its_lease():
    history = History(max_completion_tokens=5, group_size=2)
    history.prompts(0)
    history.actor()
    history(ev.Progress("a", ((0, 1, 10),)))
    history.now = LEASE - 1
    history(ev.Progress("a", ((0, 1, 11),)))
    assert only(ev.CancelLease, history.tick(1))


def test_all_the_tokens_that_a_group_may_sample_renew_its_lease():
    history = History(max_completion_tokens=5, group_size=2)
    history.prompts(0)
    history.actor()
    history(ev.Progress("a", ((0, 1, 9),)))
    history.now = LEASE - 1
    history(ev.Progress("a", ((0, 1, 10),)))
    assert history.tick(LEASE - 1) == []
    assert only(ev.CancelLease, history.tick(1))
