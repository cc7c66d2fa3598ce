"""What a reward function is, and where it registers. A file in rewards/ imports this and no more.

A reward function is called by keyword for several completions at once and says one number for
each, or None where it does not apply:

    @reward("mine")
    def mine(completions, answer, *, bonus: float = 0.0, **columns) -> list[float | None]: ...

Ordinary arguments are columns: `prompts`, `completions` (visible replies), `thoughts` (what a model
that thinks wrote before), `raw_completions` (both), `completion_tokens`, `finish_reason`, or the
name of a column of the data row (required unless it has a default); `**columns` takes all the
others. Arguments after `*` are parameters: the config sets them, and their annotations are checked
by pydantic before the run. One of them is not the config's: a function that takes `sandbox` after
`*` is given the means to run code that the policy wrote (reward_workers/sandbox/jobs.py, Sandbox).

The function may be `async`. It runs in the main thread of a child process, one call at a time and
without network (see `needs_network`), and is killed when it takes too long (`timeout_seconds` of
the config). It may be given one completion or many, and again the same ones, so it must not compare
the completions of one call.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from protocol.errors import RewardError
from protocol.registry import Registry

OK = "ok"


@dataclass(frozen=True)
class Judged:
    """What a reward function may return for a completion where a number says too little."""

    reward: float | None
    """None: does not apply."""
    status: str = OK
    """Any other masks the sample: it is no reward of 0, but nobody knows (`sandbox_error`)."""
    facts: Mapping[str, float | int | str] = field(default_factory=dict[str, float | int | str])
    """At most 16, for the run folder: names of small letters and `_`, texts that are cut after 200
    characters. Numbers are averaged in metrics.jsonl; of texts without spaces it has the shares.
    Where the status is not ok, `detail` says why."""


Rewards = Sequence[float | Judged | None]
"""One for each completion; None: does not apply."""

RewardFunction = Callable[..., Rewards | Awaitable[Rewards]]

F = TypeVar("F", bound=Callable[..., Any])

CHECK_ATTRIBUTE = "check_parameters"
NETWORK_ATTRIBUTE = "needs_network"

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


def needs_network(function: F) -> F:
    """Decorator under `@reward`: the function may open connections when it is called.

    No other may, and while a file is imported nobody may count on it.
    """
    setattr(function, NETWORK_ATTRIBUTE, True)
    return function


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
