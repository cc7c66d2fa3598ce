"""One group: what it takes, what it forgets, and what a checkpoint keeps of it."""

from dataclasses import replace

import pytest

from learner.ledger.groups import Group, GroupState
from tests.learner.ledger.history import make_rollout, make_score


def scored_group():
    group = Group(7, "train", 2, row=3, attempt=2)
    group.lease("a", 4)
    for sample, runs in enumerate((((5, 2),), ((4, 1), (6, 1)))):
        group.take(make_rollout(7, sample, attempt=2, runs=runs))
        group.samples[sample].score = make_score(7, sample, attempt=2, reward=1.0)
    group.state = GroupState.SCORED
    group.judge_rewards()
    return group


def test_a_group_that_a_checkpoint_kept_is_the_group_that_it_was():
    group = scored_group()
    assert Group.restored(group.to_keep()) == group
    assert group.rewards_are_equal
    assert group.oldest_version == 4


def test_a_kept_group_without_a_score_for_each_rollout_is_refused():
    kept = scored_group().to_keep()
    with pytest.raises(ValueError, match="shorter"):
        Group.restored(replace(kept, scores=kept.scores[:1]))


def test_the_next_attempt_remembers_nothing_of_the_last_one():
    group = Group(7, "train", 2, row=3)
    group.lease("a", 4)
    group.take(make_rollout(7, runs=((4, 2),)))
    group.tokens = 9
    group.next_attempt()
    assert group == Group(7, "train", 2, row=3, attempt=2)


def test_rewards_are_none_until_they_are_there():
    group = Group(7, "train", 2)
    group.lease("a", 0)
    assert group.rewards() == [None, None]
    group.samples[1].score = make_score(7, 1, reward=0.5)
    assert group.rewards() == [None, 0.5]
