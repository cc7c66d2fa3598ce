"""Hand-written histories of the ledger; test_ledger_simulation.py has the random ones."""

import numpy as np
import pytest

from learner.ledger import events as ev
from learner.ledger.admission import (
    LedgerLimits,
    choose_batch,
    oldest_admissible_version,
    stale_groups,
)
from learner.ledger.groups import EVALUATION_IDS, Group, GroupState
from learner.ledger.ledger import Ledger
from learner.ledger.snapshot import Snapshot
from protocol.messages import Rollout, Score

LEASE, SCORE = 60.0, 120.0


def make_rollout(group_id, sample=0, attempt=1, epoch=1, runs=((0, 2),)):
    length = sum(n for _, n in runs)
    return Rollout(
        run_epoch=epoch,
        group_id=group_id,
        attempt=attempt,
        sample=sample,
        token_ids=np.zeros(length, dtype=np.int32),
        behaviour_logprobs=np.zeros(length, dtype=np.float32),
        policy_versions=runs,
        finish_reason="stop",
        completion="x",
        seconds=0.1,
    )


def make_score(group_id, sample=0, attempt=1, epoch=1, reward=1.0):
    return Score(
        run_epoch=epoch,
        group_id=group_id,
        attempt=attempt,
        sample=sample,
        reward=reward,
        rewards=(),
        status="ok" if reward is not None else "reward_error",
    )


class History:
    """A ledger with a clock, and short words for what happens to it."""

    def __init__(self, done=None, version=0, epoch=1, **limits):
        defaults = {"groups_per_step": 2, "group_size": 1, "max_off_policy_steps": 0}
        numbers = {"lease_seconds": LEASE, "score_seconds": SCORE, "prompts_low_water": 1}
        self.limits = LedgerLimits(**(defaults | numbers | limits))
        self.ledger = Ledger(self.limits, epoch, version, done)
        self.now = 0.0

    def __call__(self, event):
        return self.ledger.apply(event, self.now)

    def prompts(self, *group_ids, rows=None):
        return self(ev.PromptsAdded(group_ids, rows or group_ids))

    def actor(self, name="a", capacity=100, version=0):
        self(ev.PeerJoined(name, "actor"))
        return self(ev.CapacityReported(name, capacity, version))

    def worker(self, name="w", capacity=100):
        self(ev.PeerJoined(name, "reward_worker"))
        return self(ev.CapacityReported(name, capacity))

    def rollout(self, group_id, peer="a", **facts):
        return self(ev.RolloutArrived(peer, make_rollout(group_id, **facts)))

    def score(self, group_id, peer="w", **facts):
        return self(ev.ScoreArrived(peer, make_score(group_id, **facts)))

    def first_score(self, group_id):
        score = self.group(group_id).samples[0].score
        assert score is not None
        return score

    def finish(self, group_id, peer="a", **facts):
        """All of a one-sample group, from rollout to score."""
        self.rollout(group_id, peer, **facts)
        return self.score(group_id, attempt=facts.get("attempt", 1))

    def train(self):
        actions = self(ev.BatchTrained())
        self.actor(version=self.ledger.policy_version)
        return actions

    def tick(self, seconds):
        self.now += seconds
        return self(ev.Ticked())

    def group(self, group_id):
        group = self.ledger.group(group_id)
        assert group is not None
        return group

    def state(self, group_id):
        group = self.ledger.group(group_id)
        return group and group.state


def only(kind, actions):
    return [action for action in actions if isinstance(action, kind)]


def granted(actions):
    return [(action.peer, action.group_id) for action in only(ev.GrantLease, actions)]


def handed_over(actions):
    return [action.group_ids for action in only(ev.HandOver, actions)]


def reason_of(actions):
    (ack,) = only(ev.AckRollout, actions)
    return ack.accepted, ack.reason


# Admission.


def test_synchronous_admission_grants_exactly_one_batch():
    history = History(max_off_policy_steps=0)
    history.prompts(*range(9))
    assert granted(history.actor()) == [("a", 0), ("a", 1)]


def test_admission_grants_one_more_batch_for_each_off_policy_step():
    history = History(max_off_policy_steps=2)
    history.prompts(*range(9))
    assert granted(history.actor()) == [("a", i) for i in range(6)]
    assert history.ledger.counts()["leased"] == 6
    assert history.ledger.counts()["ready"] == 3


def test_an_actor_that_is_behind_gets_only_what_will_still_be_fresh():
    # groups 0 and 1 train at version 5, 2 and 3 at version 6; version 4 is admissible up to 5
    history = History(version=5, max_off_policy_steps=1)
    history.prompts(*range(9))
    assert granted(history.actor("old", version=3)) == []
    assert granted(history.actor("behind", version=4)) == [("behind", 0), ("behind", 1)]
    assert granted(history.actor("current", version=5)) == [("current", 2), ("current", 3)]


@pytest.mark.parametrize(
    ("in_flight", "oldest"), [(0, 8), (2, 8), (3, 9), (5, 9), (6, 10), (8, 10), (9, 11)]
)
def test_the_oldest_admissible_version_rises_with_every_full_batch_ahead(in_flight, oldest):
    limits = LedgerLimits(groups_per_step=3, group_size=1, max_off_policy_steps=2)
    assert oldest_admissible_version(limits, 10, in_flight) == oldest


def test_an_actor_without_weights_gets_nothing():
    history = History(max_off_policy_steps=3)
    history.prompts(0)
    assert granted(history.actor(version=-1)) == []


def test_a_version_that_the_learner_does_not_have_counts_as_none_for_good():
    history = History(max_off_policy_steps=3)
    history.actor("b", version=0)
    history.actor("lost-lineage", version=1)
    history.prompts(0, 1)
    history.finish(0, "b")
    history.worker()
    history.score(0)
    history.finish(1, "b")
    history(ev.BatchWanted())
    history(ev.PeerLost("b"))
    history(ev.BatchTrained())
    assert granted(history.prompts(2)) == []


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


def test_an_actor_that_claims_endless_tokens_loses_its_lease():
    history = History(max_completion_tokens=5, group_size=2)
    history.prompts(0)
    history.actor()
    history(ev.Progress("a", ((0, 1, 10),)))
    history.now = LEASE - 1
    history(ev.Progress("a", ((0, 1, 11),)))
    assert only(ev.CancelLease, history.tick(1))


def test_a_rollout_longer_than_asked_for_is_refused():
    history = History(max_completion_tokens=2, group_size=1)
    history.prompts(0)
    history.actor()
    assert reason_of(history.rollout(0, runs=((0, 3),))) == (False, "too_long")
    assert reason_of(history.rollout(0, runs=((0, 2),))) == (True, "")


# Leases.


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


# Rollouts and scores.


def test_every_rollout_is_acked_with_a_reason():
    history = History(version=3, max_off_policy_steps=2)
    history.prompts(0, 1)
    history.actor("b", capacity=1, version=1)
    history.actor("a", version=2)
    assert history.group(1).holder == "a"
    answers = [
        (reason_of(history.rollout(1, peer, **facts)))
        for peer, facts in (
            ("a", {"epoch": 0, "runs": ((2, 1),)}),
            ("a", {"attempt": 0, "runs": ((2, 1),)}),
            ("b", {"runs": ((2, 1),)}),
            ("a", {"sample": 1, "runs": ((2, 1),)}),
            ("a", {"runs": ((2, 1), (4, 1))}),
            ("a", {"runs": ((1, 1), (2, 1))}),
            ("a", {"runs": ((2, 1), (3, 1))}),
            ("a", {"runs": ((2, 1), (3, 1))}),
        )
    ]
    reasons = "fenced stale_attempt not_holder unknown_sample future_version wrong_version"
    assert answers == [(False, r) for r in reasons.split()] + [(True, ""), (True, "duplicate")]
    assert reason_of(history.rollout(77)) == (False, "unknown_group")
    assert history.group(1).oldest_version == 2


def test_samples_are_scored_while_the_stragglers_are_generated():
    history = History(group_size=2)
    history.prompts(0)
    history.actor()
    history.worker()
    assert only(ev.AssignScore, history.rollout(0)) == [ev.AssignScore("w", 0, 1, 0)]
    history.score(0)
    assert history.state(0) is GroupState.LEASED
    history.rollout(0, sample=1)
    assert history.state(0) is GroupState.SCORING
    history.score(0, sample=1)
    assert history.state(0) is GroupState.SCORED


def test_a_lost_workers_samples_go_to_another_and_the_first_score_wins():
    history = History()
    history.prompts(0)
    history.actor()
    history.worker("w")
    history.rollout(0)
    history.worker("v")
    assert only(ev.AssignScore, history(ev.PeerLost("w"))) == [ev.AssignScore("v", 0, 1, 0)]
    assert history.score(0, "w", reward=0.25) == [ev.AckScore("w", 0, 1, 0)]
    assert history.score(0, "v", reward=0.75) == [ev.AckScore("v", 0, 1, 0)]
    assert history.first_score(0).reward == 0.25
    assert history.ledger.counts()["duplicates"] == 1
    assert history.ledger.counts()["scores"] == 1


def test_scores_for_what_did_not_arrive_are_acked_and_counted():
    history = History()
    history.prompts(0)
    history.actor()
    for score in (
        make_score(0),
        make_score(0, sample=9),
        make_score(0, attempt=2),
        make_score(0, epoch=2),
    ):
        assert only(ev.AckScore, history(ev.ScoreArrived("w", score)))
    assert only(ev.AckScore, history.score(5))
    counts = history.ledger.counts()
    assert counts["rejected/unknown_sample"] == 2
    assert counts["rejected/stale_attempt"] == counts["rejected/unknown_group"] == 1
    assert counts["fenced"] == 1


def test_a_late_sample_goes_to_another_worker_and_is_masked_in_the_end():
    history = History(max_score_attempts=3, groups_per_step=1)
    history.prompts(0)
    history.actor()
    history.worker("w", capacity=5)
    history.rollout(0)
    history.worker("v", capacity=1)
    assert history.tick(SCORE - 0.001) == []
    assert history.tick(0.001) == [ev.AssignScore("v", 0, 1, 0)]
    assert history.tick(SCORE) == [ev.AssignScore("w", 0, 1, 0)]
    assert history.tick(SCORE) == []
    score = history.first_score(0)
    assert (score.reward, score.status, score.run_epoch) == (None, "reward_timeout", 1)
    assert history.state(0) is GroupState.SCORED
    assert history.ledger.counts()["masked/reward_timeout"] == 1


def test_a_late_sample_goes_back_to_the_only_worker():
    history = History(groups_per_step=1)
    history.prompts(0)
    history.actor()
    history.worker("w", capacity=1)
    history.rollout(0)
    assert history.tick(SCORE) == [ev.AssignScore("w", 0, 1, 0)]


def test_a_sample_that_workers_die_of_is_masked():
    history = History(max_attempts=2)
    history.prompts(0)
    history.actor()
    history.worker("v")
    history.rollout(0)
    history(ev.PeerLost("v"))
    history.worker("w")
    assert history.state(0) is GroupState.SCORING
    history(ev.PeerLost("w"))
    assert history.first_score(0).status == "reward_worker_lost"


def test_a_worker_never_gets_more_than_its_capacity():
    history = History(group_size=3)
    history.prompts(0)
    history.actor()
    history.worker(capacity=2)
    given = [len(only(ev.AssignScore, history.rollout(0, sample=s))) for s in range(3)]
    assert given == [1, 1, 0]
    assert only(ev.AssignScore, history.score(0)) == [ev.AssignScore("w", 0, 1, 2)]


# Hand-over.


def test_a_batch_waits_to_be_wanted_and_is_handed_over_once():
    history = History(max_off_policy_steps=1)
    history.prompts(*range(4))
    history.actor()
    history.worker()
    for group_id in (3, 1, 2, 0):
        assert handed_over(history.finish(group_id)) == []
    assert handed_over(history(ev.BatchWanted())) == [(0, 1)]
    assert handed_over(history(ev.BatchWanted())) == []
    assert handed_over(history.train()) == [(2, 3)]
    assert history.ledger.policy_version == 1
    assert history.ledger.group(0) is None and history.ledger.group(2) is not None


def test_a_batch_is_not_handed_over_a_group_short():
    history = History(groups_per_step=3, max_off_policy_steps=1)
    history.prompts(*range(3))
    history.actor()
    history(ev.BatchWanted())
    assert handed_over(history.finish(0) + history.finish(2)) == []
    assert handed_over(history.finish(1)) == [(0, 1, 2)]


def test_the_oldest_version_is_trained_first():
    history = History(version=1, max_off_policy_steps=1)
    history.actor("new", capacity=1, version=1)
    history.prompts(0)
    history.actor("old", capacity=1, version=0)
    history.prompts(1)
    history(ev.CapacityReported("new", 2, 1))
    history.prompts(2)
    history.worker()
    history.finish(0, "new", runs=((1, 1),))
    history.finish(2, "new", runs=((1, 1),))
    history(ev.BatchWanted())
    assert handed_over(history.finish(1, "old", runs=((0, 1), (1, 1)))) == [(1, 0)]


def test_a_batch_waits_for_a_slow_group_that_would_be_too_old_for_the_next():
    # max_off_policy_steps 1: group 0 of version 0 must be trained at version 1 at the latest
    history = History(groups_per_step=1, max_off_policy_steps=1)
    history.prompts(*range(4))
    history.actor()
    history(ev.BatchWanted())
    assert handed_over(history.finish(1)) == [(1,)]
    history(ev.BatchWanted())
    history.train()
    assert handed_over(history.finish(2, runs=((1, 1),))) == []  # waits for 0
    history.rollout(0)
    assert handed_over(history.score(0)) == [(0,)]
    history(ev.BatchWanted())
    assert handed_over(history.train()) == [(2,)]


def test_a_batch_stops_waiting_when_the_slow_lease_ends():
    history = History(groups_per_step=1, max_off_policy_steps=1)
    history.prompts(*range(4))
    history.actor()
    history(ev.BatchWanted())
    history.finish(1)
    history.train()
    history(ev.BatchWanted())
    history.now = 30.0
    history.finish(2, runs=((1, 1),))
    actions = history.tick(30.0)
    assert handed_over(actions) == [(2,)]
    # group 0 starts over behind the batch in hand, with weights that fit
    assert only(ev.GrantLease, actions)[0] == ev.GrantLease("a", 0, 2, "train", 1, 1)


def test_a_batch_leaves_no_more_old_groups_behind_than_fit_into_the_next_ones():
    limits = LedgerLimits(groups_per_step=1, group_size=1, max_off_policy_steps=2)
    young, old, older = (make_group(i, version) for i, version in ((7, 2), (1, 1), (2, 1)))
    # at version 2, 1 and 2 may be trained up to version 3: without one of them they cannot both be
    assert choose_batch([young], [old, older], 2, limits) is None
    assert choose_batch([young], [old], 2, limits) == [young]
    assert choose_batch([young, old], [older], 2, limits) == [old]
    # and at version 3 group 1 must be in this batch
    assert choose_batch([young], [old], 3, limits) is None
    # the k-th that is left behind has k // groups_per_step more batches to wait
    pairs = LedgerLimits(groups_per_step=2, group_size=1, max_off_policy_steps=2)
    batch = [make_group(8, 2), make_group(9, 2)]
    rest = [make_group(i, 1) for i in range(3)]
    assert choose_batch(batch, rest[:2], 2, pairs) == batch
    assert choose_batch(batch, rest, 2, pairs) is None
    # nothing is unfinished: nothing to wait for
    assert choose_batch([young, old, older], [], 3, limits) == [old]


def make_group(group_id, version):
    group = Group(group_id, "train", 1)
    group.lease("a", version)
    return group


def test_the_hard_bound_takes_out_exactly_what_is_too_old():
    limits = LedgerLimits(groups_per_step=1, group_size=1, max_off_policy_steps=2)
    groups = [make_group(version, version) for version in range(6)]
    assert [group.group_id for group in stale_groups(groups, 5, limits)] == [0, 1, 2]


def test_a_scored_group_that_is_too_old_is_discarded_not_trained():
    history = History(groups_per_step=1, max_off_policy_steps=1)
    history.prompts(0)
    history.actor()
    history.finish(0, runs=((0, 4),))
    history.worker()
    history.score(0)
    history.ledger.policy_version = 2  # only a mistake could bring this about
    actions = history(ev.BatchWanted())
    assert handed_over(actions) == []
    assert ev.AttemptDiscarded(0, 1, "stale", (4,)) in actions
    assert history.ledger.counts()["discarded/stale"] == 1


def test_the_synchronous_batch_waits_for_all_its_groups_and_has_no_staleness():
    history = History(groups_per_step=2)
    history.prompts(*range(4))
    history.actor()
    history(ev.BatchWanted())
    assert handed_over(history.finish(1)) == []
    actions = history.finish(0)
    assert handed_over(actions) == [(0, 1)]
    assert granted(actions) == []  # the batch in hand still fills the bound
    assert granted(history.train()) == []  # version 0 is too old now
    assert history.ledger.counts()["leased"] == 2


def test_a_skipped_batch_is_dropped_and_the_version_stays():
    history = History(groups_per_step=1)
    history.prompts(0, 1)
    history.actor()
    history(ev.BatchWanted())
    history.finish(0)
    actions = history(ev.BatchSkipped("non_finite"))
    assert actions[0] == ev.GroupDropped(0, "non_finite")
    assert granted(actions) == [("a", 1)]
    assert history.ledger.policy_version == 0
    assert history.ledger.counts()["dropped/non_finite"] == 1
    assert history.ledger.counts()["trained"] == 0


def test_the_last_batch_may_be_smaller_and_then_the_data_has_ended():
    history = History(groups_per_step=2)
    history.prompts(0, 1, 2)
    history.actor()
    history(ev.BatchWanted())
    history.finish(0)
    assert handed_over(history.finish(1)) == [(0, 1)]
    history.train()
    history(ev.BatchWanted())
    assert handed_over(history.finish(2, runs=((1, 1),))) == []
    assert handed_over(history(ev.PromptsEnded())) == [(2,)]
    history(ev.BatchWanted())
    assert handed_over(history.train()) == [()]
    assert history.ledger.counts()["trained"] == 3


def test_the_last_batch_waits_for_what_is_ready_or_leased():
    history = History(groups_per_step=2)
    history.prompts(0)
    history(ev.BatchWanted())
    assert handed_over(history(ev.PromptsEnded())) == []
    assert handed_over(history.actor()) == []
    assert handed_over(history.finish(0)) == [(0,)]


def test_a_masked_sample_counts_as_scored():
    history = History(groups_per_step=1)
    history.prompts(0)
    history.actor()
    history(ev.BatchWanted())
    history.rollout(0)
    assert handed_over(history.score(0, reward=None)) == [(0,)]
    assert history.ledger.counts()["masked/reward_error"] == 1


@pytest.mark.parametrize("event", [ev.BatchTrained(), ev.BatchSkipped("x")])
def test_training_what_was_not_handed_over_is_our_bug(event):
    with pytest.raises(AssertionError):
        History()(event)


# Prompts.


def test_prompts_are_asked_for_below_the_low_water_mark_and_once():
    history = History(prompts_low_water=2)
    assert history(ev.Ticked()) == [ev.NeedPrompts(2)]
    assert history(ev.Ticked()) == []
    assert history.prompts(0, 1) == []
    history.actor(capacity=1)
    assert only(ev.NeedPrompts, history.prompts(2)) == []
    assert only(ev.NeedPrompts, history(ev.CapacityReported("a", 2, 0))) == [ev.NeedPrompts(2)]
    assert history(ev.PromptsEnded()) == []
    assert history.tick(LEASE)[-1] != ev.NeedPrompts(2)


# Evaluation.


def test_an_evaluation_pauses_training_leases_and_uses_its_version_alone():
    history = History(version=1, max_off_policy_steps=1)
    first = EVALUATION_IDS
    started = history(ev.EvaluationStarted((first, first + 1), 2))
    assert only(ev.EvaluationFinished, started) == []
    history.prompts(0)
    assert granted(history.actor("old", version=0)) == []
    actions = history.actor("a", capacity=4, version=1)
    assert only(ev.GrantLease, actions) == [
        ev.GrantLease("a", first + i, 1, "evaluation", 2, 1) for i in range(2)
    ]
    assert reason_of(history.rollout(first, runs=((0, 1), (1, 1)))) == (False, "wrong_version")
    for group_id in (first + 1, first):
        for sample in range(2):
            history.rollout(group_id, sample=sample, runs=((1, 1),))
            actions = history.score(group_id, sample=sample)
    assert actions[1] == ev.EvaluationFinished((first, first + 1), ())
    assert granted(actions) == [("old", 0)]  # it has the most room
    assert history.first_score(first).reward == 1.0
    history(ev.EvaluationStarted((), 1))
    assert history.ledger.group(first) is None


def test_an_evaluation_rollout_has_one_version_even_if_the_policy_went_on():
    group = Group(EVALUATION_IDS, "evaluation", 1)
    group.lease("a", 1)
    mixed, pure = (
        make_rollout(EVALUATION_IDS, runs=runs) for runs in (((1, 1), (2, 1)), ((1, 2),))
    )
    assert group.refusal("a", mixed, policy_version=2) == "wrong_version"
    assert group.refusal("a", pure, policy_version=2) == ""


def test_no_batch_is_handed_over_while_an_evaluation_is_open():
    history = History(groups_per_step=1, max_attempts=1)
    history.prompts(0)
    history.actor()
    history.finish(0)
    history(ev.EvaluationStarted((EVALUATION_IDS,), 1))
    assert handed_over(history(ev.BatchWanted())) == []
    actions = history(ev.LeaseFailed("a", 1, EVALUATION_IDS, 1, ""))
    assert ev.EvaluationFinished((), (EVALUATION_IDS,)) in actions
    assert handed_over(actions) == [(0,)]
    counts = history.ledger.counts()
    assert counts["evaluation/dropped/attempts"] == 1
    assert "dropped/attempts" not in counts


def test_an_empty_evaluation_finishes_at_once():
    history = History()
    history.prompts(0)
    assert history(ev.EvaluationStarted((), 1))[0] == ev.EvaluationFinished((), ())


def test_evaluation_ids_are_never_used_twice():
    history = History()
    history(ev.EvaluationStarted((EVALUATION_IDS,), 1))
    history.actor()
    history.finish(EVALUATION_IDS)
    with pytest.raises(AssertionError):
        history(ev.EvaluationStarted((EVALUATION_IDS,), 1))


# Snapshots.


def test_a_resume_issues_exactly_the_prompts_that_are_not_done():
    history = History(groups_per_step=2, max_off_policy_steps=1)
    history.prompts(0, 1, 2, 5)
    history.actor()
    history(ev.LeaseFailed("a", 1, 0, 1, ""))
    history(ev.BatchWanted())
    history.finish(1)
    actions = history.finish(5)
    (hand_over,) = only(ev.HandOver, actions)
    assert hand_over.group_ids == (1, 5)
    snapshot = hand_over.snapshot
    assert (snapshot.watermark, snapshot.done, snapshot.attempts) == (0, (1, 5), ((0, 2),))
    assert snapshot.counts["trained"] == 2

    resumed = History(snapshot, version=1, epoch=2, groups_per_step=2, max_off_policy_steps=1)
    resumed.prompts(0, 1, 2, 5, 6)
    grants = only(ev.GrantLease, resumed.actor(version=1))
    assert [(grant.group_id, grant.attempt) for grant in grants] == [(0, 2), (2, 1), (6, 1)]
    assert reason_of(resumed.rollout(0, attempt=2, epoch=1)) == (False, "fenced")
    assert resumed.ledger.counts()["trained"] == 2


def test_attempts_of_prompts_that_were_not_read_again_yet_are_kept():
    history = History(Snapshot(attempts=((9, 4),)), groups_per_step=1)
    history.prompts(0)
    history.actor()
    history(ev.BatchWanted())
    (hand_over,) = only(ev.HandOver, history.finish(0))
    assert hand_over.snapshot.attempts == ((9, 4),)


def test_the_watermark_passes_gaps_and_the_record_stays_small():
    history = History(groups_per_step=1)
    history.actor()
    for version in range(50):
        history.prompts(3 * version)
        history(ev.BatchWanted())
        (hand_over,) = only(ev.HandOver, history.finish(3 * version, runs=((version, 1),)))
        assert hand_over.snapshot.done == ()
        assert hand_over.snapshot.watermark == 3 * version + 1
        history.train()
    assert history.ledger.group(0) is None


def test_a_snapshot_survives_json_and_a_skip_moves_its_counts():
    snapshot = Snapshot(3, (5, 7), ((4, 2),), {"trained": 5, "scores": 9}, batch_groups=2)
    assert Snapshot.from_json(snapshot.to_json()) == snapshot
    skipped = snapshot.with_batch_dropped("non_finite")
    assert skipped.counts == {"trained": 3, "dropped/non_finite": 2, "scores": 9}
    assert (skipped.watermark, skipped.done) == (3, (5, 7))


# Peers that say anything.


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
