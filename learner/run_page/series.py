"""The curves of a run: metrics.jsonl and eval.jsonl as columns, read as they grow."""

import itertools
import secrets
import threading
from array import array
from bisect import bisect_right
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learner.jsonl_tail import JsonlTail
from learner.run_page.json_values import as_number

MAX_COLUMNS = 1000
"""Of metrics.jsonl, and of eval.jsonl; a fact that takes ever new words would add more and more."""
_NO_FIGURES = frozenset({"step", "policy_version", "evaluator", "time", "n"})

Points = dict[str, list[float | None]]


class Series:
    """All numbers of a run's steps and evaluations. Thread-safe.

    Args:
        run_dir: the run folder; its files may come later.
    """

    def __init__(self, run_dir: Path) -> None:
        self._lock = threading.Lock()
        self._metrics = JsonlTail(run_dir / "metrics.jsonl")
        self._evals = JsonlTail(run_dir / "eval.jsonl")
        self._run = secrets.token_hex(4)
        self._num_cuts = 0
        self._restarts = (0, 0)
        self._clear_columns()
        self._evaluations: dict[str, Points] = {}

    def answer(self, after: int | None, points: int) -> dict[str, Any]:
        """What /api/series says.

        Args:
            after: only rows of later steps; None for all.
            points: at most so many a column.
        """
        with self._lock:
            self._update()
            start = 0 if after is None else bisect_right(self._columns["step"], after)
            columns = {key: np.array(column[start:]) for key, column in self._columns.items()}
            evaluations = {
                key: {name: list(values) for name, values in found.items()}
                for key, found in self._evaluations.items()
            }
            token, steps = f"{self._run}-{self._num_cuts}", self._columns["step"]
            step = int(steps[-1]) if steps else 0
        return {
            "token": token,
            "step": step,
            "columns": {key: as_list(thin(column, points)) for key, column in columns.items()},
            "evaluations": evaluations,
        }

    def last(self, key: str, num_rows: int = 1) -> list[float]:
        """The numbers that the last rows have under a key, oldest first."""
        with self._lock:
            self._update()
            column = self._columns.get(key, array("d"))[-num_rows:]
        return [value for value in column if value == value]

    def _clear_columns(self) -> None:
        self._columns: dict[str, array[float]] = {"step": array("d"), "time": array("d")}

    def _update(self) -> None:
        for batch in self._metrics.batches():
            self._follow_restarts()
            for row in batch:
                self._add(row)
        for batch in self._evals.batches():
            self._follow_restarts()
            for row in batch:
                self._add_evaluation(row)
        self._follow_restarts()

    def _follow_restarts(self) -> None:
        """Forget what a file said that was cut back or replaced."""
        before, self._restarts = self._restarts, (self._metrics.restarts, self._evals.restarts)
        if before[0] != self._restarts[0]:
            self._clear_columns()
        if before[1] != self._restarts[1]:
            self._evaluations = {}
        self._num_cuts += before != self._restarts

    def _add(self, row: Mapping[str, Any]) -> None:
        step = row.get("step")
        if type(step) is not int or not 0 <= step < 1 << 53:
            return
        steps = self._columns["step"]
        if steps and step <= steps[-1]:  # taken again
            self._cut(bisect_right(steps, step - 1))
        num_rows = len(self._columns["step"])
        for key, value in row.items():
            number = as_number(value)
            if key not in self._columns and number is not None and len(self._columns) < MAX_COLUMNS:
                self._columns[key] = array("d", itertools.repeat(np.nan, num_rows))
        for key, column in self._columns.items():
            number = as_number(row.get(key))
            column.append(np.nan if number is None else number)

    def _cut(self, num_rows: int) -> None:
        for column in self._columns.values():
            del column[num_rows:]
        self._num_cuts += 1

    def _add_evaluation(self, row: Mapping[str, Any]) -> None:
        step, evaluator = as_number(row.get("step")), row.get("evaluator")
        if step is None or not isinstance(evaluator, str):
            return
        for key, value in row.items():
            number, name = as_number(value), f"{evaluator}/{key}"
            if number is None or key in _NO_FIGURES:
                continue
            if name in self._evaluations or len(self._evaluations) < MAX_COLUMNS:
                found = self._evaluations.setdefault(name, {"step": [], "value": []})
                found["step"].append(step)
                found["value"].append(number)


def thin(values: NDArray[np.float64], points: int) -> NDArray[np.float64]:
    """Means of equal bins, and the last value as it is; the mean of what is not NaN."""
    num_values = len(values)
    if num_values <= points:
        return values
    num_bins = points - 1
    if num_bins == 0:
        return values[-1:]
    starts = np.arange(num_bins) * (num_values - 1) // num_bins
    known = np.isfinite(values[:-1])
    with np.errstate(all="ignore"):
        sums = np.add.reduceat(np.where(known, values[:-1], 0.0), starts)
        means = sums / np.add.reduceat(known.astype(np.float64), starts)
    return np.append(means, values[-1])


def as_list(values: NDArray[np.float64]) -> list[float | None]:
    """The numbers, None for those that are not finite."""
    finite = np.isfinite(values)
    if finite.all():
        return values.tolist()
    return [value if ok else None for value, ok in zip(values.tolist(), finite, strict=True)]
