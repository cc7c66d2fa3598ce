"""What a replay reads of a run folder. Nothing is written, and no lock is taken."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol.config import RunConfig
from protocol.config_file import load_config
from protocol.errors import ConfigError

Row = dict[str, Any]


@dataclass(frozen=True)
class Recorded:
    """A run folder's config, and its rows of metrics.jsonl by step."""

    path: Path
    config: RunConfig
    steps: dict[int, Row]

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

    @property
    def config_file(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

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
        text = metrics.read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(keepends=True), start=1):
            if line.endswith("\n"):  # a run that goes on may be writing the last one
                row = _read_row(line, f"{metrics}:{number}")
                steps[row["step"]] = row
    if not steps:
        raise ConfigError(f"{path} has no step to compute again: its metrics.jsonl has no row yet")
    return Recorded(path, load_config(path / "config.yaml"), steps)


def _read_row(line: str, where: str) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ConfigError(f"{where} is no JSON: {error}") from None
    if not (isinstance(row, dict) and type(row.get("step")) is int and row["step"] > 0):
        raise ConfigError(f"{where} is no row of a step: wanted an object with a number `step`")
    return row
