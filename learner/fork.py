"""A run that begins as a copy of another one, up to a checkpoint."""

import json
import logging
import shutil
from pathlib import Path

from learner.disk import Disk, room, sync, write_atomically
from learner.run_folder import CONFIGS, RunFolder
from protocol.errors import ConfigError, RunStopped

log = logging.getLogger("learner.fork")

ORIGIN = "origin.json"
"""Says what a run folder is a copy of."""

_UNFINISHED = shutil.ignore_patterns(".*")
"""What a run that goes on is writing: the name with a dot may be gone in the next moment."""


def fork_run(source: Path, checkpoint: Path, step: int, target: Path) -> None:
    """Copy a run's records and one checkpoint, as if the run had stopped there.

    Args:
        source: the other run's folder; it is only read.
        checkpoint: of `source`, of `step`.
        step: where the copy ends.
        target: the new folder; there whole, under this name, or not at all.

    Raises:
        ConfigError: something cannot be copied: the disk is full, or the other run goes on and has
            just deleted it.
    """
    temporary = target.with_name(f".{target.name}.fork")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        _copy(source, checkpoint, temporary)
        _end_at(step, temporary)
        origin = {"run": str(source), "checkpoint": checkpoint.name, "step": step}
        write_atomically(temporary / ORIGIN, json.dumps(origin, indent=1) + "\n")
        for path in (*temporary.rglob("*"), temporary):
            sync(path)
        temporary.rename(target)
        sync(target.parent)
    except (OSError, RunStopped) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise ConfigError(
            f"cannot copy {checkpoint} and the records of {source} to {target}: {_reason(error)}. "
            f"If the disk is full, free space ({room(target.parent)}); if that run is going on, "
            "try again, or stop it first"
        ) from None
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    log.info("%s begins as a copy of %s up to step %d", target, source, step)


def _copy(source: Path, checkpoint: Path, into: Path) -> None:
    copy = RunFolder(into)
    copy.checkpoints.mkdir(parents=True)
    # with every name: a checkpoint is whole when it is there, and its manifest may list any
    shutil.copytree(checkpoint, copy.checkpoints / checkpoint.name)
    for name in ("metrics.jsonl", "eval.jsonl", "run_epoch"):
        if (source / name).is_file():
            shutil.copyfile(source / name, into / name)
    for name in ("rollouts", "evaluations", CONFIGS):
        if (source / name).is_dir():
            shutil.copytree(source / name, into / name, ignore=_UNFINISHED)


def _end_at(step: int, folder: Path) -> None:
    """Cut the copy back; a disk that is full ends it at once, since nothing is lost by that."""
    discarded = folder / ".later"
    RunFolder(folder, Disk(limit_seconds=0.0)).cut_back(step, discarded)
    shutil.rmtree(discarded, ignore_errors=True)


def _reason(error: Exception) -> str:
    """What failed first, in a line."""
    if isinstance(error, RunStopped):
        return "no space left on the disk"
    if isinstance(error, shutil.Error) and isinstance(error.args[0], list):
        reasons = [str(reason) for _, _, reason in error.args[0]]
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        return reasons[0] + more
    return str(error)
