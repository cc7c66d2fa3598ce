"""Does every algorithm learn from its config? One short run of each, the same budget for all.

Every file of configs/algorithms/ is a run of `mlx-train` with all its processes, on the built-in
tiny policy; they run in turn.

    .venv/bin/python bench/algorithms.py [--only ppo dapo] [--runs FOLDER] [--set run.seed=1]

Prints held-out accuracy (greedy, n 1024) before and after, and what the audit says of the run.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[1]
CONFIGS = sorted((CHECKOUT / "configs" / "algorithms").glob("*.yaml"))
BIN = Path(sys.executable).parent


def rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def train(config: Path, run_dir: Path, settings: list[str]) -> float:
    """Run one config; returns its seconds.

    Raises:
        RuntimeError: the run failed; its last lines say why.
    """
    command = [BIN / "mlx-train", "--config", config, "--run-dir", run_dir]
    command += [word for setting in settings for word in ("--set", setting)]
    began = time.perf_counter()
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError("\n".join((done.stdout + done.stderr).splitlines()[-5:]))
    return time.perf_counter() - began


def is_sound(run_dir: Path) -> bool:
    """Whether the audit finds nothing wrong."""
    command = [sys.executable, "-m", "learner.audit", run_dir]
    return not subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=False).returncode


def line(name: str, run_dir: Path, seconds: float) -> str:
    """One run of the table."""
    accuracy = [row["accuracy"] for row in rows(run_dir / "eval.jsonl")]
    steps = rows(run_dir / "metrics.jsonl")
    rollouts = steps[-1]["trained"] * 8
    step_seconds = statistics.median(row["seconds/step"] for row in steps)
    return (
        f"{name:24} {accuracy[0]:.3f} -> {accuracy[-1]:.3f}  {accuracy[-1] - accuracy[0]:+.3f}  "
        f"{len(steps)} steps  {rollouts} rollouts  {step_seconds:.2f} s/step  {seconds:.0f} s  "
        f"audit {'ok' if is_sound(run_dir) else 'FAILED'}"
    )


def main() -> None:
    """Print the table, a line as soon as its run is done."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [path.stem for path in CONFIGS]
    parser.add_argument("--only", nargs="*", choices=names, default=names)
    parser.add_argument("--runs", type=Path, help="where run folders go; a temporary one if absent")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    options = parser.parse_args()
    folder = options.runs or Path(tempfile.mkdtemp(prefix="algorithms-"))
    for config in CONFIGS:
        if config.stem in options.only:
            run_dir = folder / config.stem
            seconds = train(config, run_dir, options.settings)
            print(line(config.stem, run_dir, seconds), flush=True)


if __name__ == "__main__":
    main()
