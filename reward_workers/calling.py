"""The reward call: the boundary where whatever a reward function does becomes data.

Runs in a child process (child.py). What cannot be caught here, such as a loop without end or a
crash of the interpreter, is the business of children.py.
"""

import asyncio
import inspect
import numbers
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from protocol.errors import RewardError
from protocol.fields import MAX_FACT_TEXT, Facts, Name
from protocol.messages import ScoreTask
from reward_workers.binding import SANDBOX, BoundReward
from reward_workers.registry import OK, Judged
from reward_workers.rows import Row, read_row
from reward_workers.thinking import NO_THOUGHTS, Thinking

REWARD_ERROR = "reward_error"
MAX_FAILURE_CHARACTERS = 300
MAX_REWARD = 1e9
"""In size; beyond it a group's mean and spread lose all other rewards to rounding, or overflow."""
RESERVED_FACT = "seconds"
"""metrics.jsonl has the call's own under this name."""

_FACTS = TypeAdapter[dict[str, float | int | str]](Facts)
_STATUS = TypeAdapter[str](Name)

Clock = Callable[[], float]


class Outcome(NamedTuple):
    """What one reward function said of one completion."""

    reward: Annotated[float | None, Field(allow_inf_nan=False)]
    """None: does not apply, or the status says why there is none."""
    seconds: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
    """A sample's share of the call."""
    status: Name = OK
    failure: Annotated[str, Field(max_length=MAX_FAILURE_CHARACTERS)] = ""
    """What went wrong, in one line; empty where nothing did."""
    facts: Facts = {}  # noqa: RUF012 - replaced, never changed


def call_tasks(
    reward: BoundReward,
    tasks: Sequence[ScoreTask],
    clock: Clock,
    sandbox: object = None,
    thinking: Thinking = NO_THOUGHTS,
) -> list[Outcome]:
    """One outcome for each task; tasks of the same columns are scored together."""
    outcomes: dict[int, Outcome] = {}
    alike: dict[frozenset[str], list[tuple[int, Row]]] = {}
    for index, task in enumerate(tasks):
        try:
            row = read_row(task, thinking)
        except RewardError as error:
            outcomes[index] = Outcome(None, 0.0, REWARD_ERROR, describe(error))
        else:
            alike.setdefault(frozenset(row.columns), []).append((index, row))
    for members in alike.values():
        called = call_reward(reward, [row for _, row in members], clock, sandbox)
        outcomes.update(zip((index for index, _ in members), called, strict=True))
    return [outcomes[index] for index in range(len(tasks))]


def call_reward(
    reward: BoundReward, rows: Sequence[Row], clock: Clock, sandbox: object = None
) -> list[Outcome]:
    """One outcome for each row; the rows have the same columns.

    A call for several rows that fails is made again row by row, so that the failure stays with the
    completion that caused it.
    """
    began = clock()
    try:
        results = _results(reward, rows, sandbox)
    except BaseException as error:  # noqa: BLE001 - the reward call; user code may even exit
        if len(rows) == 1:
            return [Outcome(None, max(clock() - began, 0.0), REWARD_ERROR, describe(error))]
        return [outcome for row in rows for outcome in call_reward(reward, [row], clock, sandbox)]
    seconds = max(clock() - began, 0.0) / len(rows)
    return [_outcome(result, seconds) for result in results]


def describe(error: BaseException) -> str:
    """Type and first line of an error, short, and fit to be sent as UTF-8."""
    first_line = next(iter(str(error).splitlines()), "")
    return _clean(f"{type(error).__name__}: {first_line}")[:MAX_FAILURE_CHARACTERS]


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _results(reward: BoundReward, rows: Sequence[Row], sandbox: object) -> list[object]:
    arguments = reward.arguments(rows)
    if reward.uses_sandbox:
        arguments[SANDBOX] = sandbox
    returned: Any = reward.function(**arguments)
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
    try:
        if not isinstance(result, Judged):
            return Outcome(_finite(result), seconds)
        return _judged(result, seconds)
    except (RewardError, OverflowError) as error:
        return Outcome(None, seconds, REWARD_ERROR, describe(error))


def _judged(judged: Judged, seconds: float) -> Outcome:
    facts = _checked_facts(judged.facts)
    if judged.status == OK:
        return Outcome(_finite(judged.reward), seconds, facts=facts)
    try:
        status = _STATUS.validate_python(judged.status)
    except ValidationError:
        raise RewardError(f"returned the status {judged.status!r}, wanted a short name") from None
    failure = _clean(" ".join(str(facts.get("detail", status)).split()))
    return Outcome(None, seconds, status, failure[:MAX_FAILURE_CHARACTERS] or status, facts)


def _checked_facts(facts: Mapping[str, object]) -> dict[str, float | int | str]:
    fit = {
        name: _clean(value)[:MAX_FACT_TEXT] if isinstance(value, str) else value
        for name, value in facts.items()
    }
    try:
        checked = _FACTS.validate_python(fit)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RewardError(f"returned facts that cannot be kept: {where} {first['msg']}") from None
    if RESERVED_FACT in checked:
        raise RewardError(f"returned a fact named {RESERVED_FACT!r}, which is the call's own")
    return checked


def _finite(result: object) -> float | None:
    if result is None:
        return None
    if not isinstance(result, numbers.Real):
        raise RewardError(f"returned {type(result).__name__}, wanted a number or None")
    value = float(result)
    if not abs(value) <= MAX_REWARD:
        raise RewardError(f"returned {value}, wanted a number of at most {MAX_REWARD:g}")
    return value
