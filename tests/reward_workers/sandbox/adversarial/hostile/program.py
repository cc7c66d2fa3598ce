"""A hostile program as data: what it tries, the verdict that it must get, and its control.

Every program is written to win. Where its harm is done, the judge would see the expected value
"escaped" (or no end, or the end of the judge); where it is stopped, anything else. So a verdict
`passed` is an escape, and the control, a judge without a sandbox, shows that the harm is real.
"""

import textwrap
from dataclasses import dataclass, replace
from typing import Any, Literal

from reward_workers.sandbox.jobs import Equality, Limits, Verdict

PASSED = Verdict.PASSED
FAILED = Verdict.FAILED
TIMEOUT = Verdict.TIMEOUT
OOM = Verdict.OOM
CRASHED = Verdict.CRASHED
OUTPUT_LIMIT = Verdict.OUTPUT_LIMIT

ESCAPED = "escaped"
"""What every canary holds, and what every judge expects unless a program says otherwise."""

Mode = Literal["calls", "stdio", "tests"]
Harm = Literal["wins", "hangs", "ends"]
"""What it does to the judge of control.py: it wins (is judged right), hangs it, or ends it, which
is also how that judge says no."""

SMALL = Limits(
    cpu_seconds=1.0, idle_seconds=1.0, wall_seconds=40.0, memory_bytes=256 << 20, tmp_bytes=8 << 20
)
BRIEF = replace(SMALL, cpu_seconds=0.4, idle_seconds=0.5, wall_seconds=10.0)
"""For programs that can only run out of time."""

FACTS = object()
"""Stands for the planted canaries, a dict of paths and ports, among a program's arguments."""


@dataclass(frozen=True)
class Hostile:
    """One program, how it is asked, and what must become of it."""

    name: str
    mode: Mode
    code: str
    verdicts: frozenset[Verdict]
    """One, or a few where the race is the program's own; `why` then says so."""
    harm: Harm | None
    why: str
    """Why there is no control, or why there are several verdicts."""
    cases: tuple[tuple[tuple[Any, ...], Any], ...]
    """(arguments, expected); for stdio, (the text of stdin or FACTS, expected stdout)."""
    tests: tuple[str, ...] | str
    support: str
    limits: Limits
    equality: Equality

    def __str__(self) -> str:
        return self.name


_EQUALITY = Equality()


def calls(
    name: str,
    code: str,
    *verdicts: Verdict,
    harm: Harm | None = "wins",
    why: str = "",
    args: tuple[Any, ...] = (FACTS,),
    expected: Any = ESCAPED,
    times: int = 1,
    limits: Limits | None = None,
    equality: Equality = _EQUALITY,
) -> Hostile:
    """A program whose function f is called, `times` times."""
    cases = ((args, expected),) * times
    return _hostile(name, "calls", code, verdicts, harm, why, cases, "", "", limits, equality)


def stdio(
    name: str,
    code: str,
    *verdicts: Verdict,
    harm: Harm | None = "wins",
    why: str = "",
    stdin: Any = FACTS,
    expected: str = ESCAPED,
    limits: Limits | None = None,
) -> Hostile:
    """A program that reads the canaries as JSON from its stdin, and prints."""
    cases = (((stdin,), expected),)
    return _hostile(name, "stdio", code, verdicts, harm, why, cases, "", "", limits, Equality())


def in_tests(
    name: str,
    code: str,
    *verdicts: Verdict,
    tests: tuple[str, ...] | str = ("assert f(FACTS) == 'escaped'",),
    support: str = "",
    harm: Harm | None = "wins",
    why: str = "",
    limits: Limits | None = None,
) -> Hostile:
    """A program whose function f is tried by test code; the name FACTS there is the canaries."""
    return _hostile(name, "tests", code, verdicts, harm, why, (), tests, support, limits)


def _hostile(
    name: str,
    mode: Mode,
    code: str,
    verdicts: tuple[Verdict, ...],
    harm: Harm | None,
    why: str,
    cases: tuple[tuple[tuple[Any, ...], Any], ...],
    tests: tuple[str, ...] | str,
    support: str,
    limits: Limits | None,
    equality: Equality = _EQUALITY,
) -> Hostile:
    if harm is None and not why:
        raise ValueError(f"{name} has no control and does not say why")
    if len(verdicts) != 1 and not why:
        raise ValueError(f"{name} may get {verdicts} and does not say why")
    if isinstance(tests, str):
        tests = textwrap.dedent(tests)
    code = textwrap.dedent(code).lstrip("\n")
    support = textwrap.dedent(support)
    chosen = frozenset(verdicts)
    if limits is None:
        limits = BRIEF if chosen == {TIMEOUT} else SMALL
    return Hostile(name, mode, code, chosen, harm, why, cases, tests, support, limits, equality)
