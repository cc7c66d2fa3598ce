"""Is every prompt trained exactly once when processes die or stop at random? Faults, then an audit.

Runs one epoch of a small task under a seeded schedule of `kill -9` and SIGSTOP (with SIGCONT some
time later) of actors, reward workers and the learner, which is resumed each time. Then
learner.audit compares what is left behind. The schedule is a function of its seed: after which step
what happens to which role is the same every time, at which microsecond of it is not.

    .venv/bin/python bench/chaos.py --events 30 --seed 1 [--run-dir DIR]
"""

import argparse
import contextlib
import json
import math
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
from chaos_schedule import LEASE_SECONDS, Fault, schedule
from run_processes import ROOT, RunProcesses

PEERS = {"actors": 2, "reward_workers": 2}
STEPS_PER_EVENT = 4
GROUPS_PER_STEP = 8
EVALUATION_INTERVAL = 4
TASK = {
    "run.max_steps": 1_000_000,
    "data.epochs": 1,
    "data.heldout": '["arithmetic:add2?count=32"]',
    "generation.group_size": 4,
    "generation.max_completion_tokens": 32,
    "generation.temperature": 2.0,
    "learner.groups_per_step": GROUPS_PER_STEP,
    "learner.lease_seconds": LEASE_SECONDS,
    "learner.score_seconds": LEASE_SECONDS,
    "learner.max_attempts": 8,
    "learner.no_progress_seconds": 60,
    "reward_worker.processes": 1,
    "evaluation.interval": EVALUATION_INTERVAL,
    "checkpoints.interval": 3,
    "network.heartbeat_seconds": 0.3,
}
"""The temperature makes completions long: there is always an actor in the middle of some."""
MOMENT_SECONDS = 30.0
"""How long a moment (a checkpoint, an evaluation) is waited for; then the fault comes anyway."""


class Chaos:
    """One run, its processes as often as they have to be started, and the faults to come."""

    def __init__(self, options: argparse.Namespace, run_dir: Path) -> None:
        num_steps = STEPS_PER_EVENT * options.events
        train = f'["arithmetic:add2?count={GROUPS_PER_STEP * num_steps}"]'
        self.run = RunProcesses(run_dir, options.port, {**TASK, "data.train": train})
        self._rng = random.Random(options.seed)
        self._faults = schedule(options.events, num_steps, options.seed)
        self._stopped: dict[psutil.Process, float] = {}
        """Processes and when they continue."""
        self.happened: Counter[str] = Counter()

    def go(self) -> str:
        """Start and resume until the run is done; returns why it failed, or nothing."""
        try:
            for module, number in PEERS.items():
                self.run.start_peers(module, number)
            code = self._go_once()
            while code == -signal.SIGKILL:
                code = self._go_once()
            if not code and not self._faults:
                code = self._go_once()  # in a finished run there is nothing left to do
        finally:
            for process in self._stopped:
                self._continue(process)
            self.run.end()
        if code:
            return f"the learner ended with code {code}"
        return f"the run ended before {len(self._faults)} of the events" if self._faults else ""

    def _go_once(self) -> int:
        """Start the learner and let faults happen until it ends; returns its exit code."""
        self.run.start_learner()
        while self._faults and self._wait_for(self._faults[0]):
            fault = self._faults[0]
            victims = [p for p in self.run.members(fault.role) if p not in self._stopped]
            if victims:
                self._happen(self._faults.pop(0), self._rng.choice(victims))
        self._until(lambda: False)
        return self.run.learner.wait()

    def _wait_for(self, fault: Fault) -> bool:
        """Wait for a fault's step, its moment, and somebody whom it can befall."""
        if fault.moment != "start-up":
            if not self._until(lambda: self.run.num_steps() >= fault.step):
                return False
            self._until(lambda: self._is_moment(fault.moment), MOMENT_SECONDS)
        self._until(lambda: False, fault.wait_seconds)
        return self._until(lambda: bool(self.run.members(fault.role)))

    def _is_moment(self, moment: str) -> bool:
        if moment == "checkpoint":
            return any(self.run.run_dir.glob("checkpoints/.step_*"))
        if moment == "evaluation":
            step = self.run.num_steps()
            return step % EVALUATION_INTERVAL == 0 and step not in self._evaluated_steps()
        return True

    def _happen(self, fault: Fault, victim: psutil.Process) -> None:
        print(f"step {self.run.num_steps()}: {fault}, pid {victim.pid}", flush=True)
        self.happened[f"{fault.kind} {fault.role} {fault.moment}"] += 1
        with contextlib.suppress(psutil.NoSuchProcess):
            if fault.kind == "kill":
                victim.kill()
            else:
                victim.suspend()
                self._stopped[victim] = time.monotonic() + fault.stop_seconds

    def _continue(self, process: psutil.Process) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()
            self.happened["continue"] += 1

    def _until(self, condition: Callable[[], bool], seconds: float = math.inf) -> bool:
        """As the run's, and stopped processes continue meanwhile."""

        def look() -> bool:
            for process in [p for p, at in self._stopped.items() if time.monotonic() >= at]:
                del self._stopped[process]
                self._continue(process)
            return condition()

        return self.run.until(look, seconds)

    def _evaluated_steps(self) -> set[int]:
        path = self.run.run_dir / "eval.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return {json.loads(line)["step"] for line in lines if line.endswith("\n")}


def main() -> int:
    """Run, disturb, resume until the run is done; returns the audit's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port", type=int, default=19550)
    parser.add_argument("--run-dir", type=Path)
    options = parser.parse_args()
    run_dir = options.run_dir or Path(tempfile.mkdtemp(prefix="chaos-"), "run")
    print(f"{options.events} events, seed {options.seed}, run folder {run_dir}", flush=True)
    began = time.monotonic()
    chaos = Chaos(options, run_dir)
    failure = chaos.go()
    print(
        f"{chaos.run.num_starts} starts of the learner in {time.monotonic() - began:.0f} s; events:"
    )
    for name, number in sorted(chaos.happened.items()):
        print(f"{number:>9}  {name}")
    if failure:
        print(f"{failure}; repeat with --seed {options.seed}")
        return 1
    audit = [sys.executable, "-m", "learner.audit", str(run_dir)]
    return subprocess.run(audit, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
