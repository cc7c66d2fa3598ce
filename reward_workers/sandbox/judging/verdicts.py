"""How one candidate's run is told: why it stopped, what counts, what it used, in one Result."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from reward_workers.sandbox.jobs import Result, Verdict

log = logging.getLogger("reward_workers")

MAX_DETAIL = 300
"""Characters of a detail; the rest is cut."""

VERDICTS = {
    "MemoryError": Verdict.OOM,
    "SystemExit": Verdict.CRASHED,
    "OutputLimit": Verdict.OUTPUT_LIMIT,
}
"""Of the errors that a worker reports by their type; all others have failed."""


class Stopped(Exception):  # noqa: N818 - not an error of ours: the end that a candidate earned
    """A candidate's run is over, or one of its cases is, with this verdict."""

    def __init__(self, verdict: Verdict, detail: str) -> None:
        self.verdict = verdict
        self.detail = one_line(detail)
        super().__init__(self.detail)

    def at(self, place: str) -> "Stopped":
        """The same, with the place where it happened before the detail."""
        return Stopped(self.verdict, f"{place}: {self.detail}")


@dataclass(frozen=True)
class Spent:
    """What one worker used for its job."""

    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int


class Tally:
    """Counts what was passed, and keeps the first reason why not all was.

    Args:
        total: cases or tests.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.passed = 0
        self._first: Stopped | None = None
        self._end: Stopped | None = None

    def fail(self, stopped: Stopped) -> None:
        """Notes a case that was not passed; others may follow."""
        self._first = self._first or stopped

    def end(self, stopped: Stopped) -> None:
        """Notes that the run ended before its time; this decides the verdict."""
        self._end = self._end or stopped

    def result(self, spent: Sequence[Spent], overrun: Stopped | None = None) -> Result:
        """What became of the candidate.

        Args:
            spent: of every worker that took part.
            overrun: a limit that only the worker's end showed to be exceeded.
        """
        stopped = self._end or overrun or self._first
        if stopped is None and self.passed < self.total:
            raise AssertionError(f"{self.passed} of {self.total} passed, and no reason is known")
        return Result(
            stopped.verdict if stopped else Verdict.PASSED,
            self.passed,
            self.total,
            stopped.detail if stopped else "",
            cpu_seconds=sum(each.cpu_seconds for each in spent),
            wall_seconds=max((each.wall_seconds for each in spent), default=0.0),
            peak_bytes=max((each.peak_bytes for each in spent), default=0),
        )


def stopped_by(error: object) -> Stopped:
    """The end that an ERROR frame's error stands for.

    Raises:
        Stopped: it is no ERROR at all.
    """
    if not isinstance(error, dict):
        raise Stopped(Verdict.CRASHED, "its worker broke the protocol: an error of no known form")
    name, message = _text(error.get("type")), _text(error.get("message"))
    return Stopped(VERDICTS.get(name, Verdict.FAILED), f"{name}: {message}" if message else name)


def plain_error(error: object) -> dict[str, str]:
    """The known fields of an ERROR, as text, to pass on to another worker.

    Raises:
        Stopped: it is no ERROR at all.
    """
    if not isinstance(error, dict):
        raise Stopped(Verdict.CRASHED, "its worker broke the protocol: an error of no known form")
    return {name: _text(error.get(name)) for name in ("type", "message", "where")}


@contextmanager
def reading_candidate() -> Iterator[None]:
    """Turns whatever a candidate's data makes our own code raise into the candidate's verdict.

    Raises:
        Stopped: for every other exception: a candidate must not be able to cause a sandbox error.
    """
    try:
        yield
    except Stopped:
        raise
    except Exception as error:
        log.debug("a candidate's data raised %s", type(error).__name__, exc_info=True)
        detail = f"a value that cannot be read: {type(error).__name__}: {error}"
        raise Stopped(Verdict.FAILED, detail) from None


def one_line(text: str) -> str:
    """Text that is safe to log and to send: one line, printable, not too long."""
    head = text[: 2 * MAX_DETAIL]
    line = " ".join("".join(c if c.isprintable() else " " for c in head).split())
    cut = len(line) > MAX_DETAIL or len(text) > len(head)
    return f"{line[:MAX_DETAIL]}..." if cut else line


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Stopped(Verdict.CRASHED, "its worker broke the protocol: an error of no known form")
    return value[:4096]
