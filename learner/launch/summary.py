"""What mlx-train says last: held-out accuracy before -> after, and where things are."""

from pathlib import Path
from typing import Any

from learner.launch.progress import RunProgress


def summary(run_dir: Path) -> list[str]:
    """Return the closing lines: held-out accuracy before -> after, run folder, last checkpoint."""
    if not run_dir.is_dir():
        return []
    checkpoint = last_checkpoint(run_dir)
    last = f"last checkpoint {checkpoint}" if checkpoint else "no checkpoint"
    return [*filter(None, [_read(run_dir).accuracy_line()]), f"run folder {run_dir}", last]


def summary_facts(run_dir: Path, max_steps: int) -> dict[str, Any]:
    """Return the same for a program; null for what there is not."""
    progress, checkpoint = _read(run_dir), last_checkpoint(run_dir)
    before, after = [(None, 0), *progress.accuracies[:1]][-1], [(None, 0), *progress.accuracies][-1]
    return {
        "step": progress.step,
        "max_steps": max_steps,
        "heldout_accuracy": {"before": before[0], "after": after[0], "n": after[1]},
        "run_dir": str(run_dir) if run_dir.is_dir() else None,
        "checkpoint": str(checkpoint) if checkpoint else None,
    }


def how_to_go_on(run_dir: Path) -> str:
    """The line for a run that failed."""
    is_saved = last_checkpoint(run_dir) is not None
    what = "to go on from there" if is_saved else "to begin anew in that folder"
    return f"{what}: the same command with --resume"


def last_checkpoint(run_dir: Path) -> Path | None:
    """The newest whole one."""
    return max(run_dir.glob("checkpoints/step_*[0-9]"), default=None)


def _read(run_dir: Path) -> RunProgress:
    progress = RunProgress(run_dir, max_steps=0)
    progress.update()
    return progress
