"""Which checkpoint was evaluated best: `checkpoints/best.json` says it, and it is never deleted."""

import json
import logging
import math
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from learner.checkpoints.retention import checkpoints_in
from learner.disk import write_atomically
from protocol.config_evaluation import KEEP_BEST

log = logging.getLogger("learner.checkpoints")

BEST = "best.json"


class Best(NamedTuple):
    """One evaluation's figure."""

    step: int
    value: float


class BestCheckpoint:
    """Notes the best evaluation, and protects its checkpoint once that is on disk.

    What is on disk is the truth: at a start the best of the evaluations that still have a
    checkpoint is taken, whatever best.json says.

    Args:
        folder: of the checkpoints.
        keep_best: `checkpoints.keep_best`; empty: nothing is ever the best.
        rows: of eval.jsonl so far.
    """

    def __init__(
        self, folder: Path, keep_best: str, rows: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        found = KEEP_BEST.fullmatch(keep_best)
        self._path = folder / BEST
        self._lock = threading.Lock()
        self._sign = -1.0 if found and found[1] else 1.0
        self._evaluator, self._figure = (found[2], found[3]) if found else ("", "")
        self._stored: Best | None = None
        self._wanted: Best | None = None
        """Better than the stored one; its checkpoint is not on disk yet."""
        saved = checkpoints_in(folder)
        for best in map(self._read, rows if found else ()):
            if best is not None and best.step in saved and self._beats(best, self._stored):
                self._stored = best
        if self._stored is not None:
            self._write(self._stored)
        else:
            self._path.unlink(missing_ok=True)

    @property
    def step(self) -> int | None:
        """Of the checkpoint that must stay."""
        return None if self._stored is None else self._stored.step

    def offer(self, rows: Iterable[Mapping[str, Any]]) -> bool:
        """Whether an evaluation is the best so far, so that its step is to be saved now.

        Args:
            rows: of the evaluation, as in eval.jsonl.
        """
        if not self._evaluator:
            return False
        for row in rows:
            if row["evaluator"] == self._evaluator and self._figure not in row:
                log.warning(
                    "checkpoints.keep_best wants %s of the evaluator %s, which has only %s",
                    *(self._figure, self._evaluator, ", ".join(row)),
                )
            best = self._read(row)
            with self._lock:
                if best is not None and self._beats(best, self._wanted or self._stored):
                    self._wanted = best
                    return True
        return False

    def saved(self, step: int) -> None:
        """Note that a step's checkpoint is on disk; any thread, one at a time."""
        with self._lock:
            if self._wanted is not None and self._wanted.step == step:
                self._write(self._wanted)
                self._stored, self._wanted = self._wanted, None

    def _read(self, row: Mapping[str, Any]) -> Best | None:
        value = row.get(self._figure)
        if row.get("evaluator") != self._evaluator or not isinstance(value, int | float):
            return None
        return Best(int(row["step"]), float(value)) if math.isfinite(value) else None

    def _beats(self, best: Best, other: Best | None) -> bool:
        return other is None or self._sign * best.value > self._sign * other.value

    def _write(self, best: Best) -> None:
        said = {"step": best.step, "evaluator": self._evaluator, "figure": self._figure}
        write_atomically(self._path, json.dumps({**said, "value": best.value}) + "\n")
