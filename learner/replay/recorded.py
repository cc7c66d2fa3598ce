"""What a replay reads of a run folder. Nothing is written, and no lock is taken."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from learner.run_folder import config_of
from protocol.config import RunConfig
from protocol.errors import ConfigError

Row = dict[str, Any]


@dataclass(frozen=True)
class Recorded:
    """A run folder's configs, and its rows of metrics.jsonl by step."""

    path: Path
    config: RunConfig
    """The newest run epoch's."""
    steps: dict[int, Row]
    configs: dict[int, RunConfig] = field(default_factory=dict)
    """By run epoch, of those that took steps; a run of a version that kept none has none."""

    @property
    def first(self) -> int:
        """The first step that has a row."""
        return min(self.steps)

    @property
    def last(self) -> int:
        """The last step that has a row."""
        return max(self.steps)

    @property
    def checkpoints(self) -> Path:
        """The folder of the run's checkpoints."""
        return self.path / "checkpoints"

    def config_of(self, step: int) -> RunConfig:
        """What a step was taken with."""
        return self.configs.get(self.run_epoch_of(step) or 0, self.config)

    def run_epoch_of(self, step: int) -> int | None:
        """Of the learner that took a step; a step without a row has the one before it's."""
        row = next((self.steps[n] for n in range(step, 0, -1) if n in self.steps), {})
        return row.get("run_epoch")

    def rollouts(self, step: int) -> Path:
        """The file of a step's rollouts."""
        return self.path / "rollouts" / f"step_{step:06d}.jsonl"

    def refuse_missing(self, step: int) -> None:
        """Let nobody ask for a step that the run did not take.

        Raises:
            ConfigError: naming the steps that there are.
        """
        if step not in self.steps:
            raise ConfigError(
                f"{self.path} has no step {step}: its metrics.jsonl has steps {self.first} to "
                f"{self.last}"
            )


def read_recorded(path: Path) -> Recorded:
    """Read a run folder.

    Raises:
        ConfigError: it is none, or no step has been taken yet.
    """
    if not path.is_dir():
        raise ConfigError(f"there is no run folder {path}: give one, such as runs/quickstart")
    if not (path / "config.yaml").is_file():
        raise ConfigError(f"{path} is no run folder: it has no config.yaml")
    steps: dict[int, Row] = {}
    metrics = path / "metrics.jsonl"
    if metrics.is_file():
        lines = metrics.read_bytes().splitlines(keepends=True)
        for number, line in enumerate(lines, start=1):
            if line.endswith(b"\n"):  # a run that goes on may be writing the last one
                row = _read_row(line, f"{metrics}:{number}")
                steps[row["step"]] = row
    if not steps:
        raise ConfigError(f"{path} has no step to compute again: its metrics.jsonl has no row yet")
    epochs = {row["run_epoch"] for row in steps.values() if "run_epoch" in row}
    configs = {epoch: config_of(path, epoch) for epoch in sorted(epochs)}
    return Recorded(path, config_of(path, None), steps, configs)


def _read_row(line: bytes, where: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{where} is no JSON: {error}") from None
    if not (isinstance(row, dict) and type(row.get("step")) is int and row["step"] > 0):
        raise ConfigError(f"{where} is no row of a step: wanted an object with a number `step`")
    if not (type(row.get("run_epoch", 1)) is int and row.get("run_epoch", 1) > 0):
        raise ConfigError(f"{where} has run_epoch {row['run_epoch']!r}, wanted a number from 1")
    return row
