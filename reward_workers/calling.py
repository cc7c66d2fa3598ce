"""The reward call: the boundary where whatever a reward function does becomes data."""

import asyncio
import inspect
import numbers
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, NamedTuple

from protocol.errors import RewardError
from reward_workers.binding import BoundReward
from reward_workers.rows import Row

MAX_FAILURE_CHARACTERS = 300
MAX_REWARD = 1e9
"""In size; beyond it a group's mean and spread lose all other rewards to rounding, or overflow."""


class Outcome(NamedTuple):
    """What one reward function said of one completion."""

    reward: float | None
    """None: does not apply, or failed."""
    seconds: float
    """A sample's share of the call."""
    failure: str = ""
    """What went wrong, in one line; empty where nothing did."""


def call_reward(
    reward: BoundReward, rows: Sequence[Row], clock: Callable[[], float]
) -> list[Outcome]:
    """One outcome for each row; the rows have the same columns.

    A call for several rows that fails is made again row by row, so that the failure stays with the
    completion that caused it.
    """
    began = clock()
    try:
        results = _results(reward, rows)
    except BaseException as error:  # noqa: BLE001 - the reward call; user code may even exit
        if len(rows) == 1:
            return [Outcome(None, clock() - began, describe(error))]
        return [outcome for row in rows for outcome in call_reward(reward, [row], clock)]
    seconds = (clock() - began) / len(rows)
    return [_outcome(result, seconds) for result in results]


def describe(error: BaseException) -> str:
    """Type and first line of an error, short, and fit to be sent as UTF-8."""
    first_line = next(iter(str(error).splitlines()), "")
    text = f"{type(error).__name__}: {first_line}"[:MAX_FAILURE_CHARACTERS]
    return text.encode("utf-8", "replace").decode("utf-8")


def _results(reward: BoundReward, rows: Sequence[Row]) -> list[object]:
    returned: Any = reward.function(**reward.arguments(rows))
    if inspect.isawaitable(returned):
        returned = asyncio.run(_awaited(returned))
    if not isinstance(returned, Iterable) or isinstance(returned, str | bytes | dict):
        raise RewardError(f"returned {type(returned).__name__}, wanted a list of numbers")
    results: list[object] = list(returned)
    if len(results) != len(rows):
        raise RewardError(f"returned {len(results)} results for {len(rows)} completions")
    return results


async def _awaited(awaitable: Awaitable[Any]) -> Any:  # noqa: ANN401 - judged by the caller
    return await awaitable


def _outcome(result: object, seconds: float) -> Outcome:
    if result is None:
        return Outcome(None, seconds)
    try:
        return Outcome(_finite(result), seconds)
    except (RewardError, OverflowError) as error:
        return Outcome(None, seconds, describe(error))


def _finite(result: object) -> float:
    if not isinstance(result, numbers.Real):
        raise RewardError(f"returned {type(result).__name__}, wanted a number or None")
    value = float(result)
    if not abs(value) <= MAX_REWARD:
        raise RewardError(f"returned {value}, wanted a number of at most {MAX_REWARD:g}")
    return value
