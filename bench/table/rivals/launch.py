"""Whole runs of either side: started, waited for, and ended with all that they started."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.table.rivals.job import BLAS_VARIABLE, STEPS_FILE, Job
from bench.table.rivals.steps import Steps, our_steps, rival_steps
from bench.table.rivals.venvs import Rival, python_of
from bench.table.rivals.workload import Inputs, OurSettings, Workload, our_config
from protocol.process import die_with_parent

ROOT = Path(__file__).resolve().parents[3]
TRAIN = "from learner.launch.train import main; main()"
MAX_RUN_SECONDS = 1200.0
LOOK_SECONDS = 0.05
NUM_PORTS = 4


@dataclass(frozen=True)
class Limits:
    """What a run may use, and whether its memory is watched."""

    threads: int
    """BLAS threads of each process."""
    core: int | None = None
    """Everything runs on this one core."""
    watch_memory: bool = False


@dataclass(frozen=True)
class Finished:
    """A run that has ended well."""

    steps: Steps
    peak_bytes: int
    """Proportional share of memory of all its processes together; 0 where nobody watched."""


def run_ours(
    workload: Workload,
    inputs: Inputs,
    num_steps: int,
    folder: Path,
    settings: OurSettings,
    limits: Limits,
) -> Finished:
    """`mlx-train`, in `folder`/run.

    Raises:
        RuntimeError: it failed; with the end of its log.
    """
    config = our_config(workload, inputs, num_steps, _free_port(), settings)
    path = folder / "config.yaml"
    path.write_text(json.dumps(config), encoding="utf-8")
    command = [sys.executable, "-c", TRAIN, "--config", str(path), "--run-dir", str(folder / "run")]
    launched = time.time()
    peak = _run([*command, "--log-level", "WARNING"], folder / "log.txt", limits, {})
    return Finished(our_steps(folder / "run", launched), peak)


def run_rival(rival: Rival, job: Job, limits: Limits) -> Finished:
    """A rival's script on a job, in its venv.

    Raises:
        RuntimeError: it failed; with the end of its log.
    """
    from protocol.blas import preload_blas

    folder = Path(job.folder)
    environment = {BLAS_VARIABLE: preload_blas() or "", "HF_HUB_OFFLINE": "1"}
    command = [str(python_of(rival)), str(rival.script_path), str(job.write())]
    launched = time.time()
    peak = _run(command, folder / "log.txt", limits, environment)
    return Finished(rival_steps(folder / STEPS_FILE, launched), peak)


def only_core() -> int:
    """The core that everything shares where one is all there is."""
    if sys.platform != "linux":  # macOS pins nothing: there the row only limits BLAS threads
        return 0
    return min(os.sched_getaffinity(0))


def _run(command: Sequence[str], log: Path, limits: Limits, more: Mapping[str, str]) -> int:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(limits.threads), **more}
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_before_exec(limits.core),
        )
    with _peak_of(process.pid, watch=limits.watch_memory) as peak:
        try:
            code = process.wait(MAX_RUN_SECONDS)
        finally:
            _end(process)
    if code:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise RuntimeError(f"exit code {code} of {' '.join(command)}\n{last}")
    return peak[0]


def _before_exec(core: int | None) -> Callable[[], None] | None:
    """In the child: it ends with this process, and may have one core only (Linux)."""
    if sys.platform != "linux":
        return None

    def prepare() -> None:
        die_with_parent()
        if core is not None:
            os.sched_setaffinity(0, {core})

    return prepare


def _end(process: subprocess.Popen) -> None:
    """With all that it started; its session is its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM if process.poll() is None else signal.SIGKILL)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def _peak_of(pid: int, *, watch: bool):  # noqa: ANN202
    """A list whose item is the largest sum of a tree's memory that was seen, in bytes."""
    peak, over = [0], threading.Event()

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            peak[0] = max(peak[0], tree_bytes(pid))

    thread = threading.Thread(target=look)
    if watch:
        thread.start()
    try:
        yield peak
    finally:
        over.set()
        if watch:
            thread.join()


def tree_bytes(pid: int) -> int:
    """Of a process and all below it; a page that several share counts once (PSS), where known."""
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += _bytes_of(each)
    return total


def _bytes_of(process: psutil.Process) -> int:
    if sys.platform != "linux":
        return process.memory_info().rss
    try:
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    except OSError:  # it has ended
        return 0
    lines = (line.split() for line in text.splitlines())
    return next((int(line[1]) * 1024 for line in lines if line and line[0] == "Pss:"), 0)


def _free_port() -> int:
    """The first of four that nobody listens on."""
    while True:
        port = random.randrange(20_000, 30_000)
        try:
            for each in range(port, port + NUM_PORTS):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", each))
        except OSError:
            continue
        return port
