"""The run folder: config, metrics, evaluations, rollouts, checkpoints, logs."""

import fcntl
import json
import logging
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from learner.resume import refuse_existing
from protocol.config import RunConfig
from protocol.config_file import dump_config
from protocol.errors import ConfigError

log = logging.getLogger("learner.run_folder")


class RunFolder:
    """Paths and files of one run.

    Args:
        path: the folder, `runs/<name>`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.checkpoints = self.path / "checkpoints"
        self.logs = self.path / "logs"
        self._rollouts = self.path / "rollouts"
        self._lock: int | None = None

    def create(self, config: RunConfig, *, resume: bool) -> None:
        """Make the folder and save the resolved config.

        Raises:
            ConfigError: it exists and the run is not resumed, or it cannot be written.
        """
        refuse_existing(self.path, resume=resume)
        try:
            for folder in (self.checkpoints, self.logs, self._rollouts):
                folder.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            write_atomically(self.path / "config.yaml", dump_config(config))
        except OSError as error:
            raise ConfigError(f"cannot write run folder {self.path}: {error}") from None

    def _take_lock(self) -> None:
        """Let no second learner write here until `release`, or the end of this process."""
        if self._lock is not None:
            return
        lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise ConfigError(
                f"another learner is running in {self.path}: end it first, or choose another folder"
            ) from None
        self._lock = lock

    def release(self) -> None:
        """Let another learner continue the run."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def next_run_epoch(self) -> int:
        """Raise the run epoch by one, on disk before it is used.

        Raises:
            ConfigError: the file of the last one holds no number.
        """
        path = self.path / "run_epoch"
        try:
            epoch = int(path.read_text()) + 1 if path.exists() else 1
        except ValueError:
            raise ConfigError(
                f"{path} holds no number: write one into it that is above every `run epoch` in "
                f"{self.logs}"
            ) from None
        write_atomically(path, f"{epoch}\n")
        return epoch

    def cut_back(self, step: int) -> None:
        """Forget every record of steps after `step`: they will be trained again."""
        for name in ("metrics.jsonl", "eval.jsonl"):
            path = self.path / name
            if path.exists():
                _keep_rows(path, step)
        for path in self._rollouts.glob("step_*.jsonl"):
            number = path.stem.removeprefix("step_")
            if number.isdecimal() and int(number) > step:
                path.unlink()

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add one step's row to metrics.jsonl; what is not finite becomes null."""
        self._append("metrics.jsonl", row)

    def append_evaluation(self, row: Mapping[str, Any]) -> None:
        """Add one evaluation's row to eval.jsonl."""
        self._append("eval.jsonl", row)

    def write_rollouts(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write every rollout of one step's batch."""
        lines = "".join(json.dumps(finite(row)) + "\n" for row in rows)
        write_atomically(self._rollouts / f"step_{step:06d}.jsonl", lines)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a JSON file of the folder, whole or not at all."""
        write_atomically(self.path / name, json.dumps(finite(value), indent=1) + "\n")

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        with (self.path / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite(row)) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all, also after a power cut."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def finite(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """The value with every number that JSON cannot hold replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def _keep_rows(path: Path, step: int) -> None:
    """Keep a file's rows up to a step; a row that is none is dropped, and said so."""
    kept: list[str] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            keep = int(json.loads(line)["step"]) <= step
        except (ValueError, KeyError, TypeError):
            log.warning("%s:%d is no whole row; it is dropped", path, number)
            continue
        if keep:
            kept.append(line + "\n")
    write_atomically(path, "".join(kept))
