"""What a sandbox is asked and what it answers: cases, limits, verdicts, results."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Protocol


class Verdict(StrEnum):
    """What became of one candidate."""

    PASSED = "passed"
    FAILED = "failed"
    """A wrong value, an exception, code that cannot be loaded."""
    TIMEOUT = "timeout"
    """It used up its CPU seconds, its idle seconds, or the backstop of wall seconds."""
    OOM = "oom"
    CRASHED = "crashed"
    """Its process ended, or broke the protocol, before it was done: exit code 0 included."""
    OUTPUT_LIMIT = "output_limit"
    SANDBOX_ERROR = "sandbox_error"
    """A fault before the candidate heard anything, or on the trusted side. Never the candidate's
    doing, so that it cannot dodge a bad reward."""


_LEAST = {
    "memory_bytes": 16 << 20,
    "tmp_bytes": 1 << 16,
    "output_bytes": 1,
    "max_fds": 16,
    "max_threads": 1,
}
"""Of the limits that are whole numbers; below these no worker can confine itself."""


@dataclass(frozen=True)
class Limits:
    """What one candidate's process may use. Zero child processes, always.

    Raises:
        ValueError: a limit that is not a finite number above 0.
    """

    cpu_seconds: float = 4.0
    idle_seconds: float = 4.0
    """Wall time, less CPU time, less time spent runnable but waiting for a CPU."""
    wall_seconds: float = 60.0
    """A backstop only: a busy machine must not change a verdict."""
    memory_bytes: int = 512 << 20
    tmp_bytes: int = 16 << 20
    output_bytes: int = 64 << 10
    """Of stdout and stderr each."""
    max_fds: int = 64
    max_threads: int = 32

    def __post_init__(self) -> None:
        for limit in fields(self):
            value = getattr(self, limit.name)
            whole = limit.name in _LEAST
            kinds = int if whole else (int, float)
            if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < math.inf:
                wanted = "a whole number" if whole else "a number"
                raise ValueError(f"limit {limit.name} is {value!r}, wanted {wanted} above 0")
            if value < _LEAST.get(limit.name, 0):
                raise ValueError(f"limit {limit.name} is {value!r}, least is {_LEAST[limit.name]}")


@dataclass(frozen=True)
class Case:
    """One call of the entry, and what it must return."""

    args: Sequence[Any]
    expected: Any
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class IO:
    """One run of a program: what it reads, and what it must print."""

    stdin: str
    expected_stdout: str


@dataclass(frozen=True)
class Result:
    """The verdict on one candidate, and what it used."""

    verdict: Verdict
    passed: int
    """Cases or tests that were passed."""
    total: int
    detail: str = ""
    """Why it did not pass, in one line. May hold the candidate's own words: never parse it."""
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    """From the delivery of the job to the verdict."""
    peak_bytes: int = 0
    degraded: tuple[str, ...] = ()
    """Layers of confinement that were missing, and that the user had allowed to be missing."""
    cached: bool = False


@dataclass(frozen=True)
class Equality:
    """When a returned value equals the expected one. Types always count: True is not 1."""

    tolerance: float = 1e-6
    """Of floats, relative and absolute; 0 wants them exact."""
    tuples_as_lists: bool = False
    """For expected values that come from JSON, which has no tuples."""
    nan_equal: bool = False


class Sandbox(Protocol):
    """What a reward function may ask for: a SandboxPool, or the way to the worker's."""

    async def run_calls(
        self,
        code: str,
        *,
        entry: str,
        cases: Sequence[Case],
        limits: Limits = Limits(),
        equality: Equality = Equality(),
    ) -> Result:
        """Call `entry` (a function's name, or Class.method) once for each case, in one process."""
        ...

    async def run_stdio(
        self, code: str, *, cases: Sequence[IO], limits: Limits = Limits()
    ) -> Result:
        """Run the program once for each case, in a process of its own."""
        ...

    async def run_tests(
        self,
        code: str,
        *,
        tests: str | Sequence[str],
        entry: str,
        support: str = "",
        limits: Limits = Limits(),
    ) -> Result:
        """Run test code in a second confined process, where the candidate is a proxy."""
        ...
