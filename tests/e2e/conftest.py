"""Real runs: commands that a test starts, watches and kills, and that leave nothing behind."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "configs" / "quickstart.yaml"
MLX_TRAIN = Path(sys.executable).with_name("mlx-train")
MARK = "MLX_RL_E2E"
"""Environment variable that every process of one command inherits."""
NUM_PORTS = 5
"""Four of the learner's sockets, and HTTP."""

T = TypeVar("T")
Rows = list[dict[str, Any]]


class Run:
    """One command and everything that it starts.

    Args:
        command: what to start, in the checkout.
        folder: for its output.
        run_dir: the run folder that it fills.
        port: of the learner; HTTP is four above.
        environment: on top of this process's own.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        folder: Path,
        run_dir: Path,
        port: int,
        environment: dict[str, str],
    ) -> None:
        self.run_dir = run_dir
        self.address = f"tcp://127.0.0.1:{port}"
        self.port = port
        self._mark = uuid.uuid4().hex
        self._temporary = folder / f"{self._mark}.tmp"
        self._temporary.mkdir()
        self._stdout = folder / f"{self._mark}.stdout"
        self._stderr = folder / f"{self._mark}.stderr"
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                [str(part) for part in command],
                cwd=ROOT,
                env={
                    **os.environ,
                    **environment,
                    "TMPDIR": str(self._temporary),
                    MARK: self._mark,
                },
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )

    # What it says and writes.

    @property
    def stdout(self) -> str:
        return self._stdout.read_text(encoding="utf-8", errors="replace")

    @property
    def stderr(self) -> str:
        return self._stderr.read_text(encoding="utf-8", errors="replace")

    @property
    def last_error(self) -> str:
        return self.stderr.splitlines()[-1]

    def rows(self) -> Rows:
        """Of metrics.jsonl, so far."""
        return read_rows(self.run_dir / "metrics.jsonl")

    def evaluations(self) -> Rows:
        return read_rows(self.run_dir / "eval.jsonl")

    def rollouts(self) -> Rows:
        """Every rollout trained on, so far."""
        paths = sorted(self.run_dir.glob("rollouts/step_*.jsonl"))
        return [row for path in paths for row in read_rows(path)]

    def scrape(self) -> str:
        """The learner's /metrics; nothing once it has ended."""
        url = f"http://127.0.0.1:{self.port + NUM_PORTS - 1}/metrics"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.read().decode()
        except OSError:
            return ""

    # Its processes.

    def members(self, module: str = "") -> list[psutil.Process]:
        """Everything of it that is alive; with a module, only `python -m module`."""
        return [p for p in psutil.process_iter() if self._is_ours(p, module)]

    def _is_ours(self, process: psutil.Process, module: str) -> bool:
        try:
            if process.environ().get(MARK) != self._mark:
                return False
            return not module or process.cmdline()[1:3] == ["-m", module]
        except psutil.Error:  # it has ended, or it is not this user's
            return False

    def kill(self, module: str) -> int:
        """Kill one process of a role with SIGKILL, once there is one; returns its pid."""
        victim = self.until(lambda: self.members(module), f"a process of {module}")[0]
        victim.kill()
        return victim.pid

    def kill_all(self) -> None:
        while members := self.members():
            for process in members:
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
            psutil.wait_procs(members, timeout=1)
        self.process.wait()

    # Waiting.

    def until(self, condition: Callable[[], T], what: str, seconds: float = 60.0) -> T:
        """Wait until a condition gives something true, and return that."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            ended = self.process.poll()
            if time.monotonic() > deadline or (ended is not None and not condition()):
                state = "still running" if ended is None else f"ended with code {ended}"
                pytest.fail(f"{what}: not within {seconds:g} s ({state})\n{self.tail()}")
            time.sleep(0.02)
        return found

    def until_step(self, step: int) -> None:
        self.until(lambda: len(self.rows()) >= step, f"step {step}")

    def ends(self, seconds: float = 90.0) -> int:
        """Wait for the command's own end; returns its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"no end within {seconds:g} s\n{self.tail()}")

    def succeeds(self, seconds: float = 90.0) -> None:
        """Wait for its end, which must be a good one and leave no process."""
        code = self.ends(seconds)
        assert code == 0, self.tail()
        assert self.members() == []

    def temporary_files(self) -> list[str]:
        """What it left in TMPDIR."""
        return sorted(path.name for path in self._temporary.iterdir())

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def tail(self) -> str:
        return f"{self.stdout[-3000:]}\n{self.stderr[-3000:]}"


def read_rows(path: Path) -> Rows:
    """Whole lines of a JSONL file that may be growing; none where there is no file."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


@pytest.fixture
def port() -> int:
    """The first of five ports in a row that are free, below those that the kernel hands out."""
    chosen = random.Random()  # not seeded: test runs beside this one must choose others
    while True:
        port = chosen.randrange(10_000, 32_000)
        if all(_is_free(number) for number in range(port, port + NUM_PORTS)):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as opened:
        try:
            opened.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


Start = Callable[..., Run]


@pytest.fixture
def start(tmp_path: Path, port: int) -> Iterator[Start]:
    """Starts any command; at the test's end, whatever is left of it is killed."""
    runs: list[Run] = []

    def start(*command: str | Path, run_dir: Path | None = None, **environment: str) -> Run:
        environment = {"OPENBLAS_NUM_THREADS": "1", **environment}
        run = Run(command, tmp_path, run_dir or tmp_path / "run", port, environment)
        runs.append(run)
        return run

    yield start
    for run in runs:
        run.kill_all()


@pytest.fixture
def train(start: Start, tmp_path: Path, port: int) -> Start:
    """Starts mlx-train with the quickstart's config, free ports, and overrides such as "a.b=c"."""
    network = (f"network.port={port}", f"network.http_port={port + NUM_PORTS - 1}")

    def train(
        *overrides: str,
        config: Path = QUICKSTART,
        run_dir: Path | None = None,
        options: Sequence[str] = (),
    ) -> Run:
        run_dir = run_dir or tmp_path / "run"
        sets = [part for override in (*network, *overrides) for part in ("--set", override)]
        command = (MLX_TRAIN, "--config", config, "--run-dir", run_dir, *sets, *options)
        return start(*command, run_dir=run_dir)

    return train
