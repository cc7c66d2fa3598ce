"""A page of a run's rollouts: newest step first, filtered, in bounded time."""

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from learner.run_page.query import RequestError
from learner.run_page.rollout_files import RolloutFiles
from learner.run_page.rollout_filter import RolloutFilter
from learner.run_page.rollout_rows import light_row, listed

SCAN_SECONDS = 0.5
"""One request looks at rollouts for so long; the next goes on from there."""
COUNT_SECONDS = 0.1
"""One request counts rollouts for so long."""

_CURSOR = re.compile(r"([0-9]{1,12})\.([0-9]{1,12})")

Position = tuple[int, int]
"""Step and line."""


class RolloutPages:
    """Pages of one run's rollouts. Thread-safe; one request scans at a time.

    Args:
        files: the rollouts.
        clock: seconds.
    """

    def __init__(self, files: RolloutFiles, clock: Callable[[], float] = time.perf_counter) -> None:
        self._files = files
        self._clock = clock
        self._scanning = threading.Lock()

    def page(
        self, wanted: RolloutFilter, *, step: int | None, before: str | None, limit: int
    ) -> dict[str, Any]:
        """What /api/rollouts says.

        Args:
            wanted: which rollouts.
            step: only this one's; None for all.
            before: `next` of another page; None for the first.
            limit: rows at most.

        Raises:
            RequestError: `before` is no cursor.
        """
        start = None if before is None else _read_cursor(before)
        with self._scanning:
            steps = self._files.steps()
            asked = steps if step is None else [s for s in steps if s == step]
            answer = self._scan(wanted, asked, start, limit)
            num_rollouts, is_counted = self._files.count(COUNT_SECONDS)
        return {
            **answer,
            "num_rollouts": num_rollouts,
            "is_counted": is_counted,
            "steps": [steps[0], steps[-1]] if steps else None,
        }

    def _scan(
        self, wanted: RolloutFilter, steps: Sequence[int], start: Position | None, limit: int
    ) -> dict[str, Any]:
        until = self._clock() + SCAN_SECONDS
        rows: list[dict[str, Any]] = []
        last_step: int | None = None
        following: str | None = None
        is_partial = False
        for step, number, line in self._lines(steps, start):
            is_full = len(rows) == limit
            is_late = last_step is not None and self._clock() >= until
            if is_full or is_late:
                following, is_partial = f"{step}.{number}", not is_full
                break
            last_step = step
            if not wanted.may_match(line):
                continue
            row = light_row(line)
            if row is not None and wanted.matches(row):
                rows.append(listed(row, step, number))
        return {
            "rows": rows,
            "next": following,
            "scanned_to": last_step,
            "is_partial": is_partial,
        }

    def _lines(
        self, steps: Sequence[int], start: Position | None
    ) -> Iterator[tuple[int, int, bytes]]:
        for step in reversed(steps):
            if start is not None and step > start[0]:
                continue
            first = start[1] if start is not None and step == start[0] else 0
            for number, line in self._files.lines(step, first):
                yield step, number, line


def _read_cursor(text: str) -> Position:
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise RequestError(f"before is {text!r}: wanted `next` of another page")
    return int(found[1]), int(found[2])
