import pytest

from reward_workers.combine import Scorer
from reward_workers.failures import Failures


@pytest.fixture
def failures():
    return Failures(lambda: 0.0)


@pytest.fixture
def score(bind, failures, make_task):
    """Scores completions by (function, weight) pairs in run epoch 3."""

    def run(rewards, *tasks):
        bound = [bind(function, weight) for function, weight in rewards]
        scored = [
            make_task(task, index) if isinstance(task, str) else task
            for index, task in enumerate(tasks)
        ]
        return Scorer(bound, failures, lambda: 0.0).score(3, scored)

    return run


def one(completions):
    return [1.0] * len(completions)


def half(completions):
    return [0.5] * len(completions)


def even_only(completions):
    return [1.0 if len(completion) % 2 == 0 else None for completion in completions]


def fragile(completions):
    return [1.0 / len(completion) for completion in completions]


def test_the_score_is_the_weighted_sum_by_hand(score):
    # 2.0 * 1.0 - 0.5 * 0.5 = 1.75
    [scored] = score([(one, 2.0), (half, -0.5)], "a")
    assert (scored.reward, scored.status, scored.run_epoch) == (1.75, "ok", 3)
    assert [(named.name, named.reward) for named in scored.rewards] == [("one", 1.0), ("half", 0.5)]


def test_a_reward_that_does_not_apply_is_left_out_of_the_sum(score):
    odd, even = score([(half, 1.0), (even_only, 1.0)], "a", "bb")
    assert (odd.reward, even.reward) == (0.5, 1.5)
    assert (odd.rewards[1].reward, odd.rewards[1].status) == (None, "ok")


def test_a_sample_that_no_reward_applies_to_is_masked(score):
    [scored] = score([(even_only, 1.0)], "a")
    assert (scored.reward, scored.status, scored.detail) == (None, "no_reward_applies", "")


def test_a_failed_reward_masks_the_sample_and_is_never_a_zero(score, failures):
    good, bad = score([(one, 1.0), (fragile, 1.0)], "a", "")
    assert (good.reward, good.status) == (2.0, "ok")
    assert (bad.reward, bad.status) == (None, "reward_error")
    assert bad.detail == "fragile: ZeroDivisionError: float division by zero"
    assert [(named.reward, named.status) for named in bad.rewards] == [
        (1.0, "ok"),
        (None, "reward_error"),
    ]
    assert failures.total() == 1


def test_a_weighted_sum_that_is_not_finite_masks_the_sample(score):
    [scored] = score([(lambda completions: [1e9], 1e300)], "a")
    assert (scored.status, scored.detail) == ("reward_error", "the weighted sum is inf")


def test_rows_of_different_columns_are_scored_apart_and_stay_in_order(score, make_task):
    def level(completions, level):
        return level

    tasks = [
        make_task("a", 0, level=1),
        make_task("b", 1),
        make_task("c", 2, level=3),
    ]
    scored = score([(level, 1.0)], *tasks)
    assert [(s.sample, s.reward) for s in scored] == [(0, 1.0), (1, None), (2, 3.0)]
    assert (
        scored[1].detail == "level: RewardError: the data row lacks the column 'level'; "
        "it has: none"
    )


def test_a_task_that_is_no_json_is_masked_and_its_neighbour_scored(score, make_task):
    bad = make_task("a", 0).model_copy(update={"columns": "{"})
    scored = score([(one, 1.0)], bad, make_task("b", 1))
    assert [(s.reward, s.status) for s in scored] == [(None, "reward_error"), (1.0, "ok")]
