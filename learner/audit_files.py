"""What an audit reads of a run folder."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel

from learner.audit_rows import (
    EvaluationRow,
    MetricsRow,
    RolloutRow,
    Rows,
    read_rows,
    whole_lines,
)
from learner.digests import rollouts_digest
from learner.ledger.snapshot import Snapshot
from learner.run_folder import LEFT_OUT, config_of
from protocol.config import RunConfig
from protocol.errors import CheckpointError, ConfigError

DROPPED_ALONE = ("attempts", "zero_advantage", "retired")
"""Reasons for which a group is dropped outside of a batch."""


@dataclass(frozen=True)
class RunFiles:
    """A run folder's records, as they stand there."""

    config: RunConfig
    """The newest run epoch's."""
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
    configs: Mapping[int, RunConfig] = field(default_factory=dict)
    """By run epoch, of those that took steps; none in runs of a version that kept none."""
    digests: Mapping[int, str] = field(default_factory=dict)
    """Of the files in rollouts/, by step."""
    left_out: frozenset[str] = frozenset()
    """Training prompts that were too long."""

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

    def config_of(self, step: int) -> RunConfig:
        """What a step was taken with."""
        return self.configs.get(self.steps.get(step, {}).get("run_epoch", 0), self.config)

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
        ConfigError: it is none, or a file of it is damaged.
    """
    if not (run_dir / "config.yaml").is_file():
        raise ConfigError(f"{run_dir} is no run folder: it has no config.yaml")
    metrics = _grown(run_dir / "metrics.jsonl", MetricsRow)
    rollouts: dict[int, Rows] = {}
    digests: dict[int, str] = {}
    for path in sorted((run_dir / "rollouts").glob("step_*.jsonl")):
        step, content = _step_of(path), path.read_bytes()
        rollouts[step] = read_rows(content, path, RolloutRow)
        digests[step] = rollouts_digest(content)
    epochs = {row["run_epoch"] for row in metrics if "run_epoch" in row}
    last = metrics[-1] if metrics else {}
    summary = _summary(run_dir)
    has_ended = summary is not None and _in_batches(summary) == _in_batches(last)
    return RunFiles(
        config_of(run_dir, None),
        metrics,
        _grown(run_dir / "eval.jsonl", EvaluationRow),
        rollouts,
        _newest_checkpoint(run_dir / "checkpoints"),
        summary if summary is not None and has_ended else last,
        _num_starts(run_dir / "run_epoch"),
        has_ended,
        {epoch: config_of(run_dir, epoch) for epoch in epochs},
        digests,
        _left_out(run_dir / LEFT_OUT),
    )


def _left_out(path: Path) -> frozenset[str]:
    if not path.is_file():
        return frozenset()
    try:
        found: object = json.loads(path.read_bytes())
    except ValueError:
        found = None
    if not isinstance(found, list):
        raise ConfigError(f"{path} is damaged: wanted a list of prompt ids")
    return frozenset(map(str, cast(list[object], found)))


def _grown(path: Path, kind: type[BaseModel]) -> Rows:
    """Rows of a file that grows; a line that a crash cut short is none."""
    return read_rows(whole_lines(path.read_bytes()), path, kind) if path.is_file() else []


def _step_of(path: Path) -> int:
    number = path.stem.removeprefix("step_")
    if not number.isdecimal():
        raise ConfigError(f"{path} is of no step: wanted a name such as step_000001.jsonl")
    return int(number)


def _newest_checkpoint(folder: Path) -> tuple[Snapshot, int] | None:
    states = sorted(folder.glob("step_*/trainer.json"))
    if not states:
        return None
    try:
        state = json.loads(states[-1].read_bytes())
        return Snapshot.from_json(state["ledger"]), int(state["step"])
    except (ValueError, LookupError, TypeError, AttributeError, CheckpointError) as error:
        raise ConfigError(f"{states[-1]} is damaged: {error!r}") from None


def _num_starts(run_epoch: Path) -> int:
    try:
        return int(run_epoch.read_bytes()) if run_epoch.is_file() else 0
    except ValueError:
        raise ConfigError(f"{run_epoch} is damaged: it holds no number") from None


def _summary(run_dir: Path) -> dict[str, int] | None:
    path = run_dir / "summary.json"
    if not path.is_file():
        return None
    try:
        summary = json.loads(path.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{path} is damaged: no JSON: {error}") from None
    if not isinstance(summary, dict):
        raise ConfigError(f"{path} is damaged: wanted counts by their names")
    return summary


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
