"""A run that begins as a copy of another one, up to a checkpoint."""

import json
import logging
import shutil
from pathlib import Path

from learner.disk import sync, write_atomically
from learner.run_folder import CONFIGS, RunFolder

log = logging.getLogger("learner.fork")

ORIGIN = "origin.json"
"""Says what a run folder is a copy of."""


def fork_run(source: Path, checkpoint: Path, step: int, target: Path) -> None:
    """Copy a run's records and one checkpoint, as if the run had stopped there.

    Args:
        source: the other run's folder; it is only read.
        checkpoint: of `source`, of `step`.
        step: where the copy ends.
        target: the new folder; there whole, under this name, or not at all.
    """
    temporary = target.with_name(f".{target.name}.fork")
    shutil.rmtree(temporary, ignore_errors=True)
    copy = RunFolder(temporary)
    copy.checkpoints.mkdir(parents=True)
    shutil.copytree(checkpoint, copy.checkpoints / checkpoint.name)
    for name in ("metrics.jsonl", "eval.jsonl", "run_epoch"):
        if (source / name).is_file():
            shutil.copyfile(source / name, temporary / name)
    if (source / "rollouts").is_dir():
        shutil.copytree(source / "rollouts", temporary / "rollouts")
    if (source / CONFIGS).is_dir():
        shutil.copytree(source / CONFIGS, temporary / CONFIGS)
    copy.cut_back(step, discarded := temporary / ".later")
    shutil.rmtree(discarded, ignore_errors=True)
    origin = {"run": str(source), "checkpoint": checkpoint.name, "step": step}
    write_atomically(temporary / ORIGIN, json.dumps(origin, indent=1) + "\n")
    for path in (*temporary.rglob("*"), temporary):
        sync(path)
    temporary.rename(target)
    sync(target.parent)
    log.info("%s begins as a copy of %s up to step %d", target, source, step)
