"""When a batch is handed over, and when prompts are asked for."""

import pytest

from learner.ledger import events as ev
from learner.ledger.groups import EVALUATION_IDS, GroupState
from tests.learner.ledger.history import LEASE, History, granted, handed_over, only


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


@pytest.mark.parametrize(
    ("event", "what"), [(ev.BatchTrained(), "trained"), (ev.BatchSkipped("x"), "skipped")]
)
def test_training_what_was_not_handed_over_is_our_bug(event, what):
    with pytest.raises(AssertionError, match=f"^a batch was {what} that was not handed over"):
        History()(event)


def test_a_batch_is_trained_or_skipped_once():
    for event in (ev.BatchTrained(), ev.BatchSkipped("x")):
        history = History(groups_per_step=1)
        history.prompts(0)
        history.actor()
        history(ev.BatchWanted())
        history.finish(0)
        history(event)
        with pytest.raises(AssertionError, match="not handed over"):
            history(event)


def test_whoever_holds_a_group_that_is_done_sees_how_it_ended():
    history = History(groups_per_step=1, max_off_policy_steps=1)
    history.prompts(0, 1)
    history.actor()
    trained, skipped = history.group(0), history.group(1)
    history.finish(0)
    history.finish(1)
    history(ev.BatchWanted())
    history.train()
    history(ev.BatchWanted())
    history(ev.BatchSkipped("x"))
    assert (trained.state, skipped.state) == (GroupState.TRAINED, GroupState.DROPPED)


def test_counts_that_every_run_shows_begin_at_nothing():
    states = ("ready", "leased", "scoring", "scored", "handed_over")
    events = ("trained", "rollouts", "scores", "duplicates", "fenced")
    assert History().ledger.counts() == dict.fromkeys((*states, *events), 0)


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


def test_prompts_after_their_end_are_our_bug():
    history = History()
    history(ev.PromptsEnded())
    with pytest.raises(AssertionError, match=r"^prompts after the end of prompts"):
        history.prompts(0)


def test_prompts_without_a_row_for_each_are_our_bug():
    with pytest.raises(ValueError, match="shorter"):
        History()(ev.PromptsAdded((0, 1), (0,)))


def test_an_evaluations_id_is_no_training_id():
    for group_id in (-1, EVALUATION_IDS):
        with pytest.raises(AssertionError, match=f"^group id {group_id} is no training id"):
            History().prompts(group_id)
    History().prompts(EVALUATION_IDS - 1)
