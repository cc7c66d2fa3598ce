"""Is every prompt trained exactly once when processes die at random? Kills, resumes, audits.

Runs the quickstart's task with `kill -9` of random actors, reward workers and learners at random
moments; a killed learner's run is resumed. Then learner.audit compares what is left behind.

    .venv/bin/python bench/exactly_once.py --steps 200 --kills 20 --seed 1 [--run-dir DIR]
"""

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
MLX_TRAIN = Path(sys.executable).with_name("mlx-train")
ROLES = ("actors", "actors", "reward_workers", "learner")


def main() -> int:
    """Run, kill, resume until the run is done; returns the audit's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--port", type=int, default=19550)
    parser.add_argument("--run-dir", type=Path)
    options = parser.parse_args()
    run_dir = options.run_dir or Path(tempfile.mkdtemp(prefix="exactly-once-"), "run")
    rng = random.Random(options.seed)
    moments = sorted(rng.sample(range(1, options.steps), options.kills), reverse=True)
    num_starts = 0
    while True:
        num_starts += 1
        run = start(options, run_dir, resume=num_starts > 1)
        try:
            kill_at(moments, run, run_dir, rng)
            code = run.wait()
        finally:
            if run.poll() is None:
                run.kill()
        if code == 0:
            break
        if code != 128 + 9:
            print(f"mlx-train ended with code {code}")
            return 1
    print(f"{num_starts} starts, {options.kills - len(moments)} kills, run folder {run_dir}")
    audit = [sys.executable, "-m", "learner.audit", str(run_dir)]
    return subprocess.run(audit, cwd=ROOT, check=False).returncode


def start(options: argparse.Namespace, run_dir: Path, *, resume: bool) -> psutil.Popen:
    """Start mlx-train on the quickstart's task, without evaluations."""
    values = {
        "run.max_steps": options.steps,
        "data.heldout": "[]",
        "network.port": options.port,
        "network.http_port": options.port + 4,
    }
    sets = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    command = [MLX_TRAIN, "--config", "configs/quickstart.yaml", "--run-dir", run_dir, *sets]
    return psutil.Popen(
        [str(part) for part in command] + ["--resume"] * resume,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )


def kill_at(moments: list[int], run: psutil.Popen, run_dir: Path, rng: random.Random) -> None:
    """Kill one process when each step is reached, until the learner is killed or none is left."""
    while moments and run.poll() is None:
        if num_steps(run_dir) < moments[-1]:
            time.sleep(0.02)
            continue
        time.sleep(rng.uniform(0.0, 0.3))  # anywhere in a step
        module = rng.choice(ROLES)
        if victims := members(run, module):
            step = moments.pop()
            print(f"step {step}: kill -9 of a process of {module}", flush=True)
            with contextlib.suppress(psutil.NoSuchProcess):
                rng.choice(victims).kill()
            if module == "learner":
                return


def num_steps(run_dir: Path) -> int:
    """Rows of metrics.jsonl."""
    path = run_dir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def members(run: psutil.Popen, module: str) -> list[psutil.Process]:
    """Living `python -m module` processes of a run."""
    try:
        found = {process: process.cmdline() for process in run.children(recursive=True)}
    except psutil.Error:  # one ended meanwhile
        return []
    return [process for process, words in found.items() if words[1:3] == ["-m", module]]


if __name__ == "__main__":
    sys.exit(main())
