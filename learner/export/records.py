"""What a run's records say for its card: rewards by step, evaluations."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learner.jsonl_tail import JsonlTail

REWARD = "reward/mean"
NUM_POINTS = 10
"""Rows of the card's table of the curve."""

_NO_FIGURES = frozenset({"step", "policy_version", "time", "run_epoch"})


@dataclass(frozen=True)
class Evaluation:
    """One evaluator's figures at a step."""

    step: int
    evaluator: str
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Records:
    """Of a run folder, as they stand there."""

    metrics: tuple[Mapping[str, Any], ...]
    """Rows of metrics.jsonl, steps rising."""
    evaluations: tuple[Evaluation, ...]
    """In the order of their steps."""

    @property
    def curve(self) -> list[tuple[int, float]]:
        """(step, mean reward) of every step that has one."""
        return [(row["step"], row[REWARD]) for row in self.metrics if _is_number(row.get(REWARD))]

    def points(self) -> list[Mapping[str, Any]]:
        """About ten rows with a reward, evenly apart, the first and the last among them."""
        rows = [row for row in self.metrics if _is_number(row.get(REWARD))]
        if len(rows) <= NUM_POINTS:
            return rows
        last = len(rows) - 1
        return [rows[round(index * last / (NUM_POINTS - 1))] for index in range(NUM_POINTS)]

    def steps_evaluated(self, *wanted: int | None) -> list[int]:
        """The first, the wanted and the last step, rising, as far as they were evaluated."""
        steps = [each.step for each in self.evaluations]
        if not steps:
            return []
        return sorted({steps[0], *(step for step in wanted if step in steps), steps[-1]})

    def figure(self, evaluator: str, name: str, step: int) -> float | None:
        """One figure; None where that step has none."""
        for each in self.evaluations:
            if (each.evaluator, each.step) == (evaluator, step):
                return each.figures.get(name)
        return None

    def figure_names(self) -> list[tuple[str, str]]:
        """(evaluator, figure) in the order in which they first appear."""
        return list(
            dict.fromkeys(
                (each.evaluator, name) for each in self.evaluations for name in each.figures
            )
        )


def read_records(run_dir: Path) -> Records:
    """Read metrics.jsonl and eval.jsonl; lines that are no rows, or cut short, are left out."""
    metrics = _by_step(JsonlTail(run_dir / "metrics.jsonl").read())
    evaluations = [
        Evaluation(row["step"], row["evaluator"], _figures(row))
        for row in _by_step(JsonlTail(run_dir / "eval.jsonl").read())
        if isinstance(row.get("evaluator"), str)
    ]
    return Records(tuple(metrics), tuple(evaluations))


def _by_step(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(
        (row for row in rows if isinstance(row.get("step"), int)), key=lambda row: row["step"]
    )


def _figures(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: value for key, value in row.items() if key not in _NO_FIGURES and _is_number(value)
    }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
