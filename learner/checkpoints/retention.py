"""Which checkpoints there are, which stay, and which are put out of the way."""

import logging
import os
import shutil
from pathlib import Path

from learner.disk import sync

log = logging.getLogger("learner.checkpoints")


def folder_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is."""
    return folder / f"step_{step:06d}"


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint's folder is named after; -1 for a folder named otherwise."""
    digits = checkpoint.name.removeprefix("step_")
    return int(digits) if digits.isdecimal() else -1


def checkpoints_in(folder: Path) -> dict[int, Path]:
    """Every checkpoint by its step, rising, damaged ones included.

    One whose replacement was cut short between two renames still goes by another name.
    """
    found = {
        step_of(Path(path.stem.removeprefix("."))): path for path in folder.glob(".step_*.replaced")
    }
    found |= {step_of(path): path for path in folder.glob("step_*")}
    return {step: found[step] for step in sorted(found) if step >= 0}


def prune_checkpoints(
    newest: Path, keep_last: int, keep_interval: int = 0, best: int | None = None
) -> None:
    """Delete old checkpoints, so that `keep_last` are left up to the one that was just saved.

    Those of steps that `keep_interval` divides, and the best one, stay too. One of a later step,
    which the run could not resume from, takes no other's place.
    """
    found = checkpoints_in(newest.parent)
    upto = [step for step in found if step <= step_of(newest)]
    for step in upto[:-keep_last]:
        if step != best and (not keep_interval or step % keep_interval):
            discard(found[step])


def discard(checkpoint: Path) -> None:
    """Delete a checkpoint; cut short, it leaves none that looks damaged."""
    deleted = checkpoint.with_name(f".{checkpoint.name.removeprefix('.')}.deleted")
    os.rename(checkpoint, deleted)
    if deleted.is_dir() and not deleted.is_symlink():
        shutil.rmtree(deleted)
    else:
        deleted.unlink()


def set_aside(folder: Path, step: int, aside: Path) -> list[Path]:
    """Move every checkpoint of a later step than the one that a run resumes from.

    They are damaged, or of a future that the run does not take; nothing of them is lost.

    Returns:
        Where they are now.
    """
    later = {number: path for number, path in checkpoints_in(folder).items() if number > step}
    moved: list[Path] = []
    into = aside / folder.name
    for number, path in later.items():
        target = folder_of(into, number)
        into.mkdir(parents=True, exist_ok=True)
        os.rename(path, target)
        log.warning(
            "%s is of a later step than %d, from which the run goes on: it is in %s now, and is "
            "used no more",
            *(path, step, into),
        )
        moved.append(target)
    if moved:
        sync(folder)
        sync(into)
    return moved
