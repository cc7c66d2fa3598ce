"""What a reward function is, and where it registers. A file in rewards/ imports this and no more.

A reward function is called by keyword for several completions at once and says one number for
each, or None where it does not apply:

    @reward("mine")
    def mine(completions, answer, *, bonus: float = 0.0, **columns) -> list[float | None]: ...

Ordinary arguments are columns: `prompts`, `completions`, `completion_tokens`, `finish_reason`, or
the name of a column of the data row (required unless it has a default); `**columns` takes all the
others. Arguments after `*` are parameters: the config sets them, and their annotations are checked
by pydantic before the run. The function may be `async`. Several threads may call it at a time, and
it may be given one completion or many, so it must not compare the completions of one call.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from protocol.errors import RewardError
from protocol.registry import Registry

Rewards = Sequence[float | None]
"""One for each completion; None: does not apply."""

RewardFunction = Callable[..., Rewards | Awaitable[Rewards]]

F = TypeVar("F", bound=Callable[..., Any])

CHECK_ATTRIBUTE = "check_parameters"

reward: Registry[RewardFunction] = Registry("reward", "reward_workers.rewards")
"""Decorator that registers a reward function by name; also finds them by name."""


def checked_by(check: Callable[..., None]) -> Callable[[F], F]:
    """Decorator under `@reward`: `check(**parameters)` runs when the config is read.

    For what an annotation cannot say, such as how two parameters must fit together; `check` gets
    the parameters that the config sets, and raises ConfigError.
    """

    def mark(function: F) -> F:
        setattr(function, CHECK_ATTRIBUTE, check)
        return function

    return mark


def values_of(name: str, columns: Mapping[str, list[object]]) -> list[object]:
    """Values of a data column that a parameter names.

    Raises:
        RewardError: the data rows have no such column.
    """
    if name not in columns:
        raise missing_column(name, columns)
    return columns[name]


def missing_column(name: str, columns: Mapping[str, object]) -> RewardError:
    """Error that names the column, and those that the data row has."""
    known = ", ".join(sorted(columns)) or "none"
    return RewardError(f"the data row lacks the column {name!r}; it has: {known}")
