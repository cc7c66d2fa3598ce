"""The roles of one run as processes of this machine, to be killed and stopped from outside."""

import contextlib
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
POLL_SECONDS = 0.003


class RunProcesses:
    """A learner, resumed as often as it is started, and peers that outlive it.

    Peers have supervisors of their own, which restart them, as on several machines.

    Args:
        run_dir: the run folder.
        port: the first of five.
        values: overrides of the quickstart's config, by dotted key.
    """

    def __init__(self, run_dir: Path, port: int, values: Mapping[str, object]) -> None:
        self.run_dir = run_dir
        self.learner: psutil.Popen
        self.num_starts = 0
        """Of the learner."""
        self._port = port
        self._values = {**values, "network.port": port, "network.http_port": port + 4}
        self._supervisors: list[psutil.Popen] = []

    def start_peers(self, module: str, number: int) -> None:
        """Start some `python -m module`."""
        address = f"tcp://127.0.0.1:{self._port}"
        for _ in range(number):
            self._supervisors.append(self._start(module, "--learner", address))

    def start_learner(self) -> None:
        """Start the learner; where there is a run already, it continues it."""
        sets = [part for item in self._values.items() for part in ("--set", f"{item[0]}={item[1]}")]
        exists = self.run_dir.is_dir() and any(self.run_dir.iterdir())
        config = ("--config", "configs/quickstart.yaml", "--run-dir", str(self.run_dir))
        self.learner = self._start("learner", *config, *sets, *["--resume"] * exists)
        self.num_starts += 1

    def _start(self, module: str, *arguments: str) -> psutil.Popen:
        environment = {**os.environ, "RUN_ID": f"run-on-{self._port}"}
        command = [sys.executable, "-m", module, *arguments, "--log-level", "WARNING"]
        return psutil.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL)

    def end(self) -> None:
        """Leave nothing behind; peers that were told of the end leave by themselves."""
        psutil.wait_procs(self._supervisors, timeout=3)
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def until(self, condition: Callable[[], bool], seconds: float = math.inf) -> bool:
        """Wait for something; False once the learner or the time has ended."""
        deadline = time.monotonic() + seconds
        while self.learner.poll() is None and time.monotonic() < deadline:
            if condition():
                return True
            time.sleep(POLL_SECONDS)
        return False

    def members(self, role: str) -> list[psutil.Process]:
        """Living processes of a role; those that restart others are none."""
        if role == "learner":
            return [self.learner] if self.learner.poll() is None else []
        found: list[psutil.Process] = []
        for supervisor in self._supervisors:
            with contextlib.suppress(psutil.Error):  # one ended meanwhile
                children = [(child, child.cmdline()) for child in supervisor.children()]
                found += [child for child, words in children if words[1:3] == ["-m", role]]
        return found

    def num_steps(self) -> int:
        """Rows of metrics.jsonl."""
        path = self.run_dir / "metrics.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0
