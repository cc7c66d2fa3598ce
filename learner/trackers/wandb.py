"""Weights & Biases, in a process of its own: learner/trackers/_wandb_process.py."""

import contextlib
import json
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from learner.tracker import TrackedRun, tracker
from learner.tracker_names import GLOBAL_STEP
from protocol.errors import ConfigError, TrainerError
from protocol.process import ERROR_PREFIX

FOLDER = "wandb"
"""Of the run folder: wandb's own files, the run's id there, and what its process said."""
RUN_ID = "run_id"
LOG = "process.log"

MODES = ("online", "offline")


@tracker("wandb")
def wandb(
    *,
    project: str = "mlx-rl-trainer",
    entity: str | None = None,
    mode: str | None = None,
    group: str | None = None,
    tags: Sequence[str] = (),
    dir: str | None = None,  # noqa: A002 - wandb's own name for it
) -> "WandbRun":
    """Report to Weights & Biases. wandb's own environment variables and login count too.

    Args:
        project: that the run belongs to.
        entity: a user or a team; the account's own by default.
        mode: online, or offline, which needs no account and sends nothing (`wandb sync` does it
            later); without it wandb decides, by WANDB_MODE or for online.
        group: of runs that are shown together.
        tags: of the run.
        dir: where its folder `wandb` goes; the run folder by default.

    Raises:
        ConfigError: the package is not installed, or the mode is none.
    """
    found = find_spec("wandb")
    if found is None or found.origin is None:  # a folder of that name, of wandb's files, has none
        raise ConfigError(
            "report_to: wandb needs a package that is not installed: pip install -e '.[wandb]'"
        )
    if mode is not None and mode not in MODES:
        raise ConfigError(f"report_to: wandb has mode {mode!r}: wanted {' or '.join(MODES)}")
    if isinstance(tags, str):
        raise ConfigError(f"report_to: wandb has tags {tags!r}: wanted a list, such as [{tags}]")
    settings = {"project": project, "entity": entity, "mode": mode, "group": group}
    return WandbRun({**settings, "tags": list(tags)}, dir)


class WandbRun:
    """A run of wandb: the same one after a resume, since its id is kept in the run folder."""

    def __init__(self, settings: Mapping[str, Any], folder: str | None) -> None:
        self._settings = settings
        self._folder = folder
        self._log = Path()
        self._process: subprocess.Popen[str] | None = None

    def start(self, run: TrackedRun) -> None:
        """Start the process; what it answers is looked at with each report."""
        own = run.folder / FOLDER
        own.mkdir(exist_ok=True)
        self._log = own / LOG
        with self._log.open("w") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "learner.trackers._wandb_process"],
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=said,
                text=True,
                start_new_session=True,  # Ctrl-C is the learner's; it has rows to hand over then
            )
        place = {"id": _run_id(own / RUN_ID), "name": run.name, "dir": self._folder}
        place["dir"] = str(Path(self._folder).absolute() if self._folder else run.folder)
        self._send({**self._settings, **place, "config": run.config})

    def log(self, step: int, figures: Mapping[str, float], time: float) -> None:
        """Hand the figures over, with the step as one of them.

        wandb's own steps only grow, and it drops what comes late: they count the reports here.
        """
        self._send({**figures, GLOBAL_STEP: step})

    def close(self, seconds: float) -> None:
        """Let wandb send what it has; what it could not send by then stays on disk."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            self._send({"finish_seconds": 0.8 * seconds})
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            code = process.wait(0.9 * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if code:
            raise TrainerError(self._reason())

    def _send(self, message: Mapping[str, Any]) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        try:
            if process.poll() is None:
                process.stdin.write(json.dumps(message) + "\n")
                process.stdin.flush()
                return
        except BrokenPipeError:
            process.wait()
        raise TrainerError(self._reason())

    def _reason(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        said = [line.removeprefix(ERROR_PREFIX) for line in lines if line.startswith(ERROR_PREFIX)]
        return said[-1] if said else f"its process has ended; {self._log} says more"


def _run_id(path: Path) -> str:
    if not path.is_file():
        path.write_text(secrets.token_hex(4) + "\n")
    return path.read_text().strip()
