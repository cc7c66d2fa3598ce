"""The run folder: config, metrics, evaluations, rollouts, checkpoints, logs."""

import fcntl
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from learner.disk import Disk, sync, write_atomically
from learner.resume import refuse_existing
from protocol.config import RunConfig
from protocol.config_file import dump_config, load_config
from protocol.errors import ConfigError

log = logging.getLogger("learner.run_folder")

SUMMARY = "summary.json"
LEFT_OUT = "left_out.json"
"""What became of the groups, written at the end of a run."""

CONFIGS = "configs"
"""The resolved config of every run epoch."""

_APPENDED = ("metrics.jsonl", "eval.jsonl")
"""Files that grow by a row at a time."""


class RunFolder:
    """Paths and files of one run.

    Args:
        path: the folder, `runs/<name>`.
        disk: how its files are written; the default waits a few minutes for a full disk.
    """

    def __init__(self, path: Path, disk: Disk | None = None) -> None:
        self.path = path.absolute()
        self.checkpoints = self.path / "checkpoints"
        self.logs = self.path / "logs"
        self._rollouts = self.path / "rollouts"
        self._evaluations = self.path / "evaluations"
        self._disk = disk or Disk()
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
            self.lock()
            write_atomically(self.path / "config.yaml", dump_config(config))
        except OSError as error:
            raise ConfigError(f"cannot write run folder {self.path}: {error}") from None

    def lock(self) -> None:
        """Let no second learner write here until `release`, or the end of this process.

        Raises:
            ConfigError: one does already.
        """
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
        self._disk.write_atomically(path, f"{epoch}\n")
        return epoch

    def keep_config(self, config: RunConfig, run_epoch: int) -> None:
        """Write down what a run epoch's steps are taken with; config.yaml is the newest one's."""
        (self.path / CONFIGS).mkdir(exist_ok=True)
        write_atomically(_config_path(self.path, run_epoch), dump_config(config))

    def keep_left_out(self, prompt_ids: Sequence[str]) -> None:
        """Write down which training prompts were too long: `python -m learner.audit` asks."""
        path = self.path / LEFT_OUT
        if prompt_ids:
            write_atomically(path, json.dumps(list(prompt_ids), indent=0) + "\n")
        else:
            path.unlink(missing_ok=True)

    def cut_back(self, step: int, aside: Path) -> None:
        """Put every record of steps after `step` into another folder: they will be trained again.

        Args:
            step: of the checkpoint that the run goes on from; -1 for none.
            aside: made where there is something to put into it.
        """
        (self.path / SUMMARY).unlink(missing_ok=True)  # of an end that was none
        for name in _APPENDED:
            path = self.path / name
            if path.exists():
                kept, cut = _split_rows(path, step)
                if cut:
                    aside.mkdir(parents=True, exist_ok=True)
                    self._disk.append(aside / name, cut)
                self._disk.write_atomically(path, kept)
        for path in self._rollouts.glob("step_*.jsonl"):
            number = path.stem.removeprefix("step_")
            if number.isdecimal() and int(number) > step:
                (aside / "rollouts").mkdir(parents=True, exist_ok=True)
                path.replace(aside / "rollouts" / path.name)
        for path in self._evaluations.glob("step_*"):
            number = path.name.removeprefix("step_")
            if number.isdecimal() and int(number) > step:
                into = aside / "evaluations" / path.name
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.rmtree(into, ignore_errors=True)
                path.replace(into)

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add one step's row to metrics.jsonl; what is not finite becomes null."""
        self._append("metrics.jsonl", row)

    def append_evaluations(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add all rows of a step's evaluation to eval.jsonl, a row an evaluator."""
        self._append("eval.jsonl", *rows)

    def write_rollouts(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write every rollout of one step's batch."""
        lines = "".join(_line(row) for row in rows)
        self._disk.write_atomically(self.rollouts_of(step), lines)

    def write_evaluated(self, step: int, evaluator: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write every completion that an evaluator was given at a step."""
        path = self.evaluated_of(step, evaluator)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._disk.write_atomically(path, "".join(_line(row) for row in rows))

    def evaluated_of(self, step: int, evaluator: str) -> Path:
        """The file of one evaluator's completions at one step."""
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", evaluator.rpartition(":")[2])
        return self._evaluations / f"step_{step:06d}" / f"{name}.jsonl"

    def evaluations(self) -> list[dict[str, Any]]:
        """All rows of eval.jsonl."""
        path = self.path / "eval.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return [json.loads(line) for line in lines]

    def rollouts_of(self, step: int) -> Path:
        """The file of one step's rollouts."""
        return self._rollouts / f"step_{step:06d}.jsonl"

    def is_evaluated(self, step: int) -> bool:
        """Whether eval.jsonl has rows of a step; those of one step are written together."""
        return any(row["step"] == step for row in self.evaluations())

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a JSON file of the folder, whole or not at all."""
        text = json.dumps(finite(value), indent=1) + "\n"
        self._disk.write_atomically(self.path / name, text)

    def sync(self) -> None:
        """Wait until every row that was added is on disk; from any thread.

        A checkpoint must not be there without the rows of its steps.
        """
        for path in (self.path / name for name in _APPENDED):
            if path.exists():
                sync(path)
        sync(self.path)

    def _append(self, name: str, *rows: Mapping[str, Any]) -> None:
        lines = "".join(_line(row) for row in rows)
        self._disk.append(self.path / name, lines)


def finite(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """The value with every number that JSON cannot hold replaced by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def _line(row: Mapping[str, Any]) -> str:
    try:
        return json.dumps(row, allow_nan=False) + "\n"  # nearly always, and three times as fast
    except ValueError:
        return json.dumps(finite(row)) + "\n"


def _split_rows(path: Path, step: int) -> tuple[str, str]:
    """A file's rows up to a step, and the others; a row that is none is one of those, and told."""
    kept: list[str] = []
    cut: list[str] = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            keep = int(json.loads(line.decode())["step"]) <= step
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            log.warning("%s:%d is no whole row; it is left out", path, number)
            keep = False
        (kept if keep else cut).append(line.decode(errors="backslashreplace") + "\n")
    return "".join(kept), "".join(cut)


def config_of(run_dir: Path, run_epoch: int | None) -> RunConfig:
    """What the steps of a run epoch were taken with; a run that says nothing of it has one config.

    Raises:
        ConfigError: the file cannot be read.
    """
    path = run_dir / "config.yaml" if run_epoch is None else _config_path(run_dir, run_epoch)
    return load_config(path if path.is_file() else run_dir / "config.yaml")


def _config_path(run_dir: Path, run_epoch: int) -> Path:
    return run_dir / CONFIGS / f"run_epoch_{run_epoch:06d}.yaml"
