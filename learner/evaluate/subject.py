"""What mlx-eval is given as a model: a model, or what a run has trained."""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from learner.run_folder import config_of
from protocol.errors import ConfigError, TrainerError
from protocol.process import ERROR_PREFIX, EXIT_BAD_INPUT

EXPORT = "from learner.export.command import main; main()"
"""In a process of its own: this one forks roles, and must not have computed with mlx."""


def is_run(text: str) -> bool:
    """Whether a model's name is that of a run folder, with or without `@STEP`."""
    run_dir = Path(text.partition("@")[0])
    return (run_dir / "config.yaml").is_file() and (run_dir / "checkpoints").is_dir()


@contextlib.contextmanager
def as_model(text: str) -> Iterator[str]:
    """A `model.path` for what the command line names, for as long as it is needed.

    Args:
        text: a folder, a Hub id, `builtin:tiny`; or a run folder, `RUN` or `RUN@STEP` (`best` and
            `latest` are steps too), whose checkpoint is exported, fused, into a temporary folder.

    Raises:
        ConfigError: the run has no such checkpoint.
        TrainerError: it could not be exported.
    """
    name, at, step = text.partition("@")
    if not is_run(text):
        if at and Path(name).is_dir():
            raise ConfigError(f"{text}: {name} is no run folder, which holds config.yaml")
        yield text
        return
    with tempfile.TemporaryDirectory(prefix="mlxrl-eval-") as folder:
        out = Path(folder) / "model"
        _export(Path(name), step, out)
        yield str(out)


def _export(run_dir: Path, step: str, out: Path) -> None:
    options = ["--step", step] if step else []
    if config_of(run_dir, None).learner.tuning == "lora":
        options += ["--fuse", "--dtype", "float32"]  # in 16 bits adapters would be rounded
    command = [sys.executable, "-c", EXPORT, str(run_dir), "--out", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    if done.returncode == 0:
        return
    reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    said = reason.removeprefix(ERROR_PREFIX)
    if done.returncode == EXIT_BAD_INPUT:
        raise ConfigError(said)
    raise TrainerError(f"exporting {run_dir} failed: {said}")
