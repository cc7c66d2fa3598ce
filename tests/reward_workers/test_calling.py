import asyncio
import sys
from fractions import Fraction

import numpy as np
import pytest

from reward_workers.calling import Outcome, call_reward, call_tasks, describe
from reward_workers.registry import Judged
from reward_workers.rows import read_row


@pytest.fixture
def call(bind, make_task):
    """Calls a function for completions; a clock that moves 3 s at each look."""
    ticks = iter(range(0, 10_000, 3))

    def run(function, *completions: str):
        rows = [read_row(make_task(completion)) for completion in completions]
        return call_reward(bind(function), rows, lambda: float(next(ticks)))

    return run


def test_a_function_is_called_once_for_all_completions(call):
    calls: list[list[str]] = []

    def length(completions):
        calls.append(completions)
        return [len(completion) for completion in completions]

    outcomes = call(length, "a", "bb", "ccc")
    assert [outcome.reward for outcome in outcomes] == [1.0, 2.0, 3.0]
    assert [outcome.seconds for outcome in outcomes] == [1.0, 1.0, 1.0]  # 3 s for 3 completions
    assert calls == [["a", "bb", "ccc"]]


def test_an_async_function_is_awaited(call):
    async def length(completions):
        await asyncio.sleep(0)
        return [len(completion) for completion in completions]

    assert [outcome.reward for outcome in call(length, "a", "bb")] == [1.0, 2.0]


def test_none_means_that_the_reward_does_not_apply(call):
    assert call(lambda completions: [None], "a") == [Outcome(None, 3.0)]


@pytest.mark.parametrize(
    ("result", "expected"),
    [(True, 1.0), (2, 2.0), (np.float32(0.5), 0.5), (Fraction(1, 4), 0.25), (-0.5, -0.5)],
)
def test_every_kind_of_real_number_is_a_reward(call, result, expected):
    assert call(lambda completions: [result], "a")[0].reward == expected


@pytest.mark.parametrize(
    ("result", "failure"),
    [
        (float("nan"), "RewardError: returned nan, wanted a number of at most 1e+09"),
        (float("inf"), "RewardError: returned inf, wanted a number of at most 1e+09"),
        (-1e300, "RewardError: returned -1e+300, wanted a number of at most 1e+09"),
        ("1.0", "RewardError: returned str, wanted a number or None"),
        (10**400, "OverflowError: int too large to convert to float"),
    ],
)
def test_what_is_no_finite_number_is_a_failure(call, result, failure):
    outcome = call(lambda completions: [result], "a")[0]
    assert (outcome.reward, outcome.status, outcome.failure) == (None, "reward_error", failure)


@pytest.mark.parametrize(
    ("returned", "failure"),
    [
        ([], "RewardError: returned 0 results for 1 completions"),
        ([1.0, 2.0], "RewardError: returned 2 results for 1 completions"),
        (1.0, "RewardError: returned float, wanted a list of numbers"),
        ("1", "RewardError: returned str, wanted a list of numbers"),
        (None, "RewardError: returned NoneType, wanted a list of numbers"),
    ],
)
def test_the_wrong_number_of_results_is_a_failure(call, returned, failure):
    outcome = call(lambda completions: returned, "a")[0]
    assert (outcome.reward, outcome.status, outcome.failure) == (None, "reward_error", failure)


def test_a_failure_stays_with_the_completion_that_caused_it(call):
    def fragile(completions):
        return [1.0 / len(completion) for completion in completions]

    outcomes = call(fragile, "a", "", "bb")
    assert [outcome.reward for outcome in outcomes] == [1.0, None, 0.5]
    assert outcomes[1].failure == "ZeroDivisionError: float division by zero"


def test_a_non_finite_result_leaves_its_neighbours_alone(call):
    outcomes = call(lambda completions: [1.0, float("nan")], "a", "b")
    assert [outcome.reward for outcome in outcomes] == [1.0, None]


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), MemoryError()])
def test_a_function_cannot_end_its_worker(call, error):
    def leave(completions):
        raise error

    assert call(leave, "a")[0].failure.startswith(type(error).__name__)


def test_an_endless_recursion_is_a_failure(call):
    def deeper(completions):
        return deeper(completions)

    assert "recursion" in call(deeper, "a")[0].failure
    assert sys.getrecursionlimit() >= 1000


def test_an_error_is_told_by_its_first_line_in_clean_text():
    assert describe(ValueError("first\nsecond")) == "ValueError: first"
    assert describe(ValueError()) == "ValueError: "
    assert describe(ValueError("\ud800 alone")) == "ValueError: ? alone"
    assert len(describe(ValueError("x" * 10_000))) == 300


def test_a_judgement_says_more_than_a_number(call):
    judged = Judged(0.5, facts={"passed": 1, "verdict": "failed", "cpu_seconds": 0.25})
    [outcome] = call(lambda completions: [judged], "a")
    assert outcome == Outcome(0.5, 3.0, facts=dict(judged.facts))


def test_a_status_masks_the_completion_and_its_detail_is_the_reason(call):
    judged = Judged(1.0, "sandbox_error", {"detail": "no\nworkers"})
    [outcome] = call(lambda completions: [judged], "a")
    assert (outcome.reward, outcome.status) == (None, "sandbox_error")
    assert outcome.failure == "no workers"
    [outcome] = call(lambda completions: [Judged(None, "odd")], "a")
    assert outcome.failure == "odd"


@pytest.mark.parametrize(
    "judged",
    [
        Judged(1.0, facts={f"f{'x' * index}": index for index in range(17)}),
        Judged(1.0, facts={"Upper": 1}),
        Judged(1.0, facts={"x" * 41: 1}),
        Judged(1.0, facts={"number": float("nan")}),
        Judged(1.0, facts={"list": [1]}),  # pyright: ignore[reportArgumentType]
        Judged(1.0, facts={"seconds": 1.0}),
        Judged(1.0, status=""),
        Judged(float("nan")),
    ],
)
def test_a_judgement_that_cannot_be_kept_is_a_failure(call, judged):
    [outcome] = call(lambda completions: [judged], "a")
    assert (outcome.reward, outcome.status) == (None, "reward_error")
    assert outcome.failure.startswith("RewardError: returned ")


def test_facts_are_fit_to_be_sent(call):
    judged = Judged(1.0, facts={"text": "\ud800", "long": "x" * 300})
    [outcome] = call(lambda completions: [judged], "a")
    assert outcome.facts == {"text": "?", "long": "x" * 200}


def level(completions, level):
    return level


def test_rows_of_different_columns_are_scored_apart_and_stay_in_order(bind, make_task):
    tasks = [make_task("a", 0, level=1), make_task("b", 1), make_task("c", 2, level=3)]
    outcomes = call_tasks(bind(level), tasks, lambda: 0.0)
    assert [outcome.reward for outcome in outcomes] == [1.0, None, 3.0]
    assert outcomes[1].failure == (
        "RewardError: the data row lacks the column 'level'; it has: none"
    )


def test_a_task_that_is_no_json_fails_alone(bind, make_task):
    bad = make_task("a", 0).model_copy(update={"columns": "{"})
    outcomes = call_tasks(bind(lambda completions: [1.0]), [bad, make_task("b", 1)], lambda: 0.0)
    assert [(o.reward, o.status) for o in outcomes] == [(None, "reward_error"), (1.0, "ok")]


def test_a_function_that_asks_for_the_sandbox_gets_it(bind, make_task):
    def judge(completions, *, sandbox):
        return [float(sandbox == "the sandbox")]

    [outcome] = call_tasks(bind(judge), [make_task()], lambda: 0.0, "the sandbox")
    assert outcome.reward == 1.0
