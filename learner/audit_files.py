"""What an audit reads of a run folder."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from learner.ledger.snapshot import Snapshot
from protocol.config import RunConfig
from protocol.config_file import load_config
from protocol.errors import ConfigError

Rows = list[dict[str, Any]]

DROPPED_ALONE = ("attempts", "zero_advantage", "retired")
"""Reasons for which a group is dropped outside of a batch."""


@dataclass(frozen=True)
class RunFiles:
    """A run folder's records, as they stand there."""

    config: RunConfig
    metrics: Rows
    evaluations: Rows
    rollouts: dict[int, Rows]
    """By step, rising."""
    checkpoint: tuple[Snapshot, int] | None
    """The newest one's ledger, and its step."""
    counts: Mapping[str, int]
    """What happened in the lineage of the last step: the ledger's counters."""
    num_starts: int
    """Of the learner, those that came as far as to bind."""
    has_ended: bool
    """It reached max_steps or the end of its data, and evaluated and saved after that."""

    @property
    def num_dropped_alone(self) -> int:
        """Groups that were dropped outside of a batch, which leave no rows."""
        return num_dropped_alone(self.counts)

    @property
    def last_step(self) -> int:
        """0 before the first."""
        return max(self.steps, default=0)

    @property
    def data_has_ended(self) -> bool:
        """The run ended for want of prompts: nothing may be open any more."""
        return self.has_ended and self.last_step < self.config.run.max_steps

    @cached_property
    def steps(self) -> dict[int, dict[str, Any]]:
        """Rows of metrics.jsonl by step, rising."""
        return {row["step"]: row for row in sorted(self.metrics, key=lambda row: row["step"])}

    def trains(self, step: int) -> bool:
        """Whether a step changed the policy; a step without a row did not."""
        row = self.steps.get(step)
        return row is not None and not row["skipped"]

    def batches(self) -> Iterator[tuple[int, int, Rows]]:
        """Each step's groups: (step, group id, rows)."""
        for step, rows in self.rollouts.items():
            by_group: dict[int, Rows] = {}
            for row in rows:
                by_group.setdefault(row["group"], []).append(row)
            for group, of_group in by_group.items():
                yield step, group, of_group

    def groups(self, *, skipped: bool) -> set[int]:
        """Groups that were trained, or (skipped) dropped together with their batch."""
        return {group for step, group, _ in self.batches() if self.trains(step) is not skipped}


def read_run_files(run_dir: Path) -> RunFiles:
    """Read a run folder.

    Raises:
        ConfigError: it is none.
    """
    if not (run_dir / "config.yaml").is_file():
        raise ConfigError(f"{run_dir} is no run folder: it has no config.yaml")
    metrics = _rows(run_dir / "metrics.jsonl")
    rollouts = {
        int(path.stem.removeprefix("step_")): _rows(path)
        for path in sorted((run_dir / "rollouts").glob("step_*.jsonl"))
    }
    last = metrics[-1] if metrics else {}
    summary = _summary(run_dir)
    has_ended = summary is not None and _in_batches(summary) == _in_batches(last)
    return RunFiles(
        load_config(run_dir / "config.yaml"),
        metrics,
        _rows(run_dir / "eval.jsonl"),
        rollouts,
        _newest_checkpoint(run_dir / "checkpoints"),
        summary if summary is not None and has_ended else last,
        _num_starts(run_dir / "run_epoch"),
        has_ended,
    )


def _rows(path: Path) -> Rows:
    """Rows of a JSONL file; a line that a crash cut short is none."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _newest_checkpoint(folder: Path) -> tuple[Snapshot, int] | None:
    states = sorted(folder.glob("step_*/trainer.json"))
    if not states:
        return None
    state = json.loads(states[-1].read_text(encoding="utf-8"))
    return Snapshot.from_json(state["ledger"]), state["step"]


def _num_starts(run_epoch: Path) -> int:
    return int(run_epoch.read_text(encoding="utf-8")) if run_epoch.is_file() else 0


def _summary(run_dir: Path) -> dict[str, int] | None:
    path = run_dir / "summary.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _in_batches(counts: Mapping[str, Any]) -> dict[str, int]:
    """How many groups ended in batches; a run that was continued has more than its old summary."""
    return {
        name: number
        for name, number in counts.items()
        if number
        and (name == "trained" or name.startswith("dropped/"))
        and name.removeprefix("dropped/") not in DROPPED_ALONE
    }


def num_dropped_alone(counts: Mapping[str, int]) -> int:
    """Groups that were dropped without having been in a batch."""
    return sum(counts.get(f"dropped/{reason}", 0) for reason in DROPPED_ALONE)
