import asyncio
import sys
from fractions import Fraction

import numpy as np
import pytest

from reward_workers.calling import call_reward, describe
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
    assert call(lambda completions: [None], "a")[0][::2] == (None, "")


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
    assert call(lambda completions: [result], "a")[0][::2] == (None, failure)


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
    assert call(lambda completions: returned, "a")[0][::2] == (None, failure)


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
