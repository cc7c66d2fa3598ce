"""An evaluation at a time, between batches."""

import pytest

from learner.ledger import events as ev
from learner.ledger.groups import EVALUATION_IDS, Group
from tests.learner.ledger.history import (
    History,
    granted,
    handed_over,
    make_rollout,
    only,
    reason_of,
)


def test_an_evaluation_pauses_training_leases_and_uses_its_version_alone():
    history = History(version=1, max_off_policy_steps=1)
    first = EVALUATION_IDS
    started = history(ev.EvaluationStarted((first, first + 1), (2, 2)))
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
    history(ev.EvaluationStarted((), ()))
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
    history(ev.EvaluationStarted((EVALUATION_IDS,), (1,)))
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
    assert history(ev.EvaluationStarted((), ()))[0] == ev.EvaluationFinished((), ())


def test_evaluation_ids_are_never_used_twice():
    history = History()
    history(ev.EvaluationStarted((EVALUATION_IDS,), (1,)))
    history.actor()
    history.finish(EVALUATION_IDS)
    with pytest.raises(AssertionError, match=f"^evaluation id {EVALUATION_IDS} is not new"):
        history(ev.EvaluationStarted((EVALUATION_IDS,), (1,)))


def test_a_second_evaluation_at_a_time_is_our_bug():
    history = History()
    history(ev.EvaluationStarted((EVALUATION_IDS,), (1,)))
    with pytest.raises(AssertionError, match=r"^one evaluation at a time"):
        history(ev.EvaluationStarted((EVALUATION_IDS + 1,), (1,)))


def test_an_evaluation_beside_a_batch_is_our_bug():
    history = History(groups_per_step=1)
    history.prompts(0)
    history.actor()
    history(ev.BatchWanted())
    history.finish(0)
    with pytest.raises(AssertionError, match=r"^an evaluation starts between batches"):
        history(ev.EvaluationStarted((EVALUATION_IDS,), (1,)))
