"""Dynamic sampling: groups of equal rewards make room for fresh prompts, within a budget."""

import random

import pytest

from learner.ledger import events as ev
from learner.ledger.groups import EVALUATION_IDS, Group, GroupState
from learner.ledger.refills import Refills

DULL, USEFUL = (1.0, 1.0), (1.0, 0.0)


def line(text):
    """Groups in the order of their ids: o is open, = is scored and equal, x is scored."""
    groups = [Group(group_id, "train", 2) for group_id in range(len(text))]
    for group, letter in zip(groups, text, strict=True):
        group.state = GroupState.LEASED if letter == "o" else GroupState.SCORED
        group.rewards_are_equal = letter == "="
    return groups


@pytest.mark.parametrize(
    ("text", "budget", "given_up"),
    [
        ("x=x=", 2, [1, 3]),
        ("x=x=", 1, [1]),
        ("====", 0, []),
        ("o=o=", 2, [1]),  # 0 may take one, so that none may be left for 3
        ("o=o=", 1, []),
        ("oo==", 9, [2, 3]),
        ("xxoo", 9, []),
    ],
)
def test_the_budget_must_last_for_every_open_group_before(text, budget, given_up):
    assert [group.group_id for group in Refills(budget).take(line(text))] == given_up


def test_the_budget_is_spent_and_begins_again_with_a_batch():
    refills = Refills(3)
    assert len(refills.take(line("=="))) == 2
    assert len(refills.take(line("=="))) == 1
    assert refills.take(line("==")) == []
    refills.begin()
    assert len(refills.take(line("===="))) == 3


def test_a_group_of_equal_rewards_makes_room_at_once(story):
    told = story(max_refill_groups=2)
    assert told.prompts(*range(9)) == [0, 1]
    actions = told.finish(1, *DULL)
    assert told.dropped(actions) == [(1, "zero_advantage")]
    assert told.granted(actions) == [2]
    assert told.ledger.group(1) is None
    told.want()
    told.finish(2, *USEFUL)
    assert told.handed_over(told.finish(0, *USEFUL)) == [(0, 2)]
    assert (told.count("dropped/zero_advantage"), told.count("trained")) == (1, 0)
    told.train()
    assert (told.count("dropped/zero_advantage"), told.count("trained")) == (1, 2)


def test_without_a_budget_groups_of_equal_rewards_are_trained_on(story):
    told = story()
    told.prompts(*range(4))
    told.want()
    told.finish(0, *DULL)
    assert told.handed_over(told.finish(1, *DULL)) == [(0, 1)]


@pytest.mark.parametrize(
    ("rewards", "teaches"),
    [
        ((0.1 + 0.2, 0.3), False),  # equal but for rounding
        ((0.0, 0.0), False),
        ((None, None), True),  # failures are for the learner to see, which may stop the run
        ((None, 1.0), True),
        ((0.0, 1e-3), True),
    ],
)
def test_what_counts_as_equal(story, rewards, teaches):
    told = story(max_refill_groups=1)
    told.prompts(*range(4))
    told.finish(0, *rewards)
    assert told.state(0) == ("scored" if teaches else None)


def test_once_the_budget_is_spent_groups_pass_as_they_are(story):
    told = story(max_refill_groups=1)
    told.prompts(*range(9))
    told.want()
    assert told.granted(told.finish(0, *DULL)) == [2]
    assert told.granted(told.finish(1, *DULL)) == []
    assert told.handed_over(told.finish(2, *DULL)) == [(1, 2)]
    told.train()
    told.want()
    assert told.dropped(told.finish(3, *DULL)) == [(3, "zero_advantage")]  # the next one's budget
    told.finish(4, *DULL)
    assert told.handed_over(told.finish(5, *DULL)) == [(4, 5)]


def test_when_all_groups_are_equal_every_batch_costs_its_budget_and_no_more(story):
    told = story(max_refill_groups=3)
    told.prompts(*range(100))
    for step in range(1, 6):
        told.want()
        while told.count("leased"):
            told.finish(min(i for i in range(100) if told.state(i) == "leased"), *DULL)
        assert told.count("handed_over") == 2
        told.train()
        assert (told.count("dropped/zero_advantage"), told.count("trained")) == (3 * step, 2 * step)


def test_the_budget_is_spent_in_ledger_order_whoever_is_scored_first(story):
    told = story(max_refill_groups=1)
    told.prompts(*range(9))
    assert told.dropped(told.finish(1, *DULL)) == []  # 0 may need it
    assert told.dropped(told.finish(0, *DULL)) == [(0, "zero_advantage")]
    assert told.state(1) == "scored"

    told = story(max_refill_groups=1)
    told.prompts(*range(9))
    told.finish(1, *DULL)
    assert told.dropped(told.finish(0, *USEFUL)) == [(1, "zero_advantage")]


def test_a_group_that_starts_over_keeps_its_place(story):
    told = story(max_refill_groups=1, max_attempts=5)
    told.prompts(*range(9))
    told(ev.CapacityReported("a", 0, 0))  # so that 0 waits
    told(ev.LeaseFailed("a", 1, 0, 1, ""))
    assert told.state(0) == "ready"
    assert told.dropped(told.finish(1, *DULL)) == []
    assert told.granted(told(ev.CapacityReported("a", 999, 0))) == [0]
    assert told.dropped(told.finish(0, *DULL)) == [(0, "zero_advantage")]


def synchronous_batches(story, seed, order):
    """What three batches hold if the groups that are open are finished in a random order."""
    told, batches = story(groups_per_step=3, max_refill_groups=2), []
    told.prompts(*range(200))
    for _ in range(3):
        told.want()
        while leased := [i for i in range(200) if told.state(i) == "leased"]:
            group_id = order.choice(leased)
            rewards = random.Random(f"{seed}/{group_id}").choice([DULL, USEFUL])
            batches += told.handed_over(told.finish(group_id, *rewards))
        told.train()
    return batches


@pytest.mark.parametrize("seed", range(10))
def test_synchronous_batches_do_not_depend_on_the_order_of_arrival(story, seed):
    found = {tuple(synchronous_batches(story, seed, random.Random(n))) for n in range(8)}
    assert len(found) == 1


def test_a_batch_is_not_handed_over_with_equal_groups_that_the_budget_has_room_for(story):
    # 1 is equal, 0 might be, and the budget is for one: the batch (1,) waits for nobody
    told = story(groups_per_step=1, max_off_policy_steps=3, max_refill_groups=1)
    assert told.prompts(*range(9)) == [0, 1, 2, 3]
    told.finish(1, *DULL)
    assert told.state(1) == "scored"
    actions = told.want()
    assert told.dropped(actions) == [(1, "zero_advantage")]
    assert told.handed_over(actions) == []
    assert told.granted(actions) == [4]
    assert told.handed_over(told.finish(2, *DULL)) == [(2,)]


def test_a_skipped_batch_does_not_give_the_budget_back(story):
    told = story(groups_per_step=1, max_off_policy_steps=1, max_refill_groups=1)
    told.prompts(*range(9))
    told.finish(0, *USEFUL)
    assert told.handed_over(told.want()) == [(0,)]
    assert told.dropped(told.finish(1, *DULL)) == [(1, "zero_advantage")]
    told(ev.BatchSkipped("non_finite"))
    told.want()
    assert told.handed_over(told.finish(2, *DULL)) == [(2,)]


def test_at_the_end_of_the_data_the_last_batch_is_smaller_and_may_be_empty(story):
    for rewards, last in ((USEFUL, (2,)), (DULL, ())):
        told = story(max_refill_groups=9)
        told.prompts(*range(4))
        told(ev.PromptsEnded())
        told.finish(0, *DULL)
        told.finish(1, *DULL)
        told.want()
        assert told.handed_over(told.finish(2, *rewards)) == []
        assert told.handed_over(told.finish(3, *DULL)) == [last]
        if last:
            told.train()
        assert told.count("dropped/zero_advantage") + told.count("trained") == 4


def test_evaluation_groups_are_never_given_up(story):
    told = story(max_refill_groups=9)
    first = EVALUATION_IDS
    told(ev.EvaluationStarted((first, first + 1), (2, 2)))
    told.finish(first, *DULL)
    assert told.finish(first + 1, *DULL)[1] == ev.EvaluationFinished((first, first + 1), ())
    assert told.count("dropped/zero_advantage") == 0


def test_after_a_resume_what_was_given_up_is_done_and_the_budget_is_whole(story):
    told = story(max_refill_groups=1)
    told.prompts(*range(9))
    told.finish(0, *DULL)
    told.finish(1, *USEFUL)
    told.finish(2, *USEFUL)
    snapshot = told.snapshot(told.want())
    assert (snapshot.watermark, snapshot.counts["dropped/zero_advantage"]) == (3, 1)
    resumed = story(type(snapshot).from_json(snapshot.to_json()), version=1, max_refill_groups=1)
    assert resumed.prompts(*range(3, 9)) == [3, 4]
    assert resumed.dropped(resumed.finish(3, *DULL)) == [(3, "zero_advantage")]
    assert resumed.count("dropped/zero_advantage") == 2


def test_what_was_given_up_after_the_hand_over_is_issued_again_after_a_resume(story):
    told = story(groups_per_step=1, max_off_policy_steps=1, max_refill_groups=1)
    told.prompts(*range(9))
    told.finish(0, *USEFUL)
    snapshot = told.snapshot(told.want())
    assert told.dropped(told.finish(1, *DULL)) == [(1, "zero_advantage")]
    resumed = story(snapshot, version=1, groups_per_step=1)
    assert resumed.prompts(*range(1, 9)) == [1]
    assert resumed.count("dropped/zero_advantage") == 0
