"""When the steps of a run ended, and what that says about its speed."""

import json
from dataclasses import dataclass
from pathlib import Path

SKIPPED, LAST = 2, 1
"""Of our steps, the first and last that no rate counts: the pipeline fills, and at the end nothing
is generated any more beside training."""
RIVAL_SKIPPED = 1
"""Of a rival's, which do one thing after the other: kernels are compiled, caches fill."""


@dataclass(frozen=True)
class Steps:
    """The steps of one run, by the wall clock."""

    launched: float
    """When its first process was started."""
    began: float
    """When its first step began: all is loaded."""
    ended: list[float]
    steady: tuple[int, int]
    """Of these, how many first and last ones no rate counts."""

    def samples_per_second(self, samples_per_step: int) -> float:
        """In the steady state.

        Raises:
            ValueError: too few steps.
        """
        first, last = self.steady
        counted = self.ended[first - 1 : len(self.ended) - last]
        if len(counted) < 2:
            raise ValueError(f"{len(self.ended)} steps, wanted at least {first + last + 1}")
        return samples_per_step * (len(counted) - 1) / (counted[-1] - counted[0])


def rival_steps(log: Path, launched: float) -> Steps:
    """Of what a rival's StepLog wrote."""
    rows = _rows(log)
    return Steps(launched, rows[0]["began"], [row["time"] for row in rows], (RIVAL_SKIPPED, 0))


def our_steps(run_dir: Path, launched: float) -> Steps:
    """Of a run folder."""
    rows = _rows(run_dir / "metrics.jsonl")
    began = rows[0]["time"] - rows[0]["seconds/step"]
    return Steps(launched, began, [row["time"] for row in rows], (SKIPPED, LAST))


def our_seconds(run_dir: Path) -> str:
    """Where our steps' time went, for profiles."""
    rows = _rows(run_dir / "metrics.jsonl")[SKIPPED:-LAST]
    names = [name for name in rows[0] if name.startswith(("seconds/", "idle", "busy"))]
    means = (f"{name} {sum(row.get(name) or 0 for row in rows) / len(rows):.3f}" for name in names)
    return ", ".join(means)


def _rows(log: Path) -> list[dict]:
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
