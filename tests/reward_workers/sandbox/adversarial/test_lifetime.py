"""The pool's own processes, descriptors and memory, in the midst of hostile programs."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hostile.catalogue import PROGRAMS
from hostile.judging import judge
from hostile.program import SMALL

from reward_workers.sandbox.pool import SandboxPool

HERE = Path(__file__).resolve().parent
SOAK_JOBS = int(os.environ.get("SOAK_JOBS", "600"))
SHORT = [
    program
    for name, program in PROGRAMS.items()
    if name.split("/")[0] in ("crashes", "exits", "equality", "forging", "processes", "files")
]
"""Programs that end by themselves, each in its own bad way."""
KILL_SECONDS = 2.0
RSS_SLACK_BYTES = 24 << 20


def _descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def _state() -> tuple[int, int, int]:
    """Descriptors, processes below this one, resident bytes."""
    own = psutil.Process()
    return own.num_fds(), len(_descendants()), own.memory_info().rss


async def _settled(pool: SandboxPool, spares: int) -> None:
    """Waits until all spares are there again and every worker of before has gone."""
    async with asyncio.timeout(20):
        while pool.statistics()["warm"] < spares:  # noqa: ASYNC110 - the pool tells no event
            await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_many_jobs_leave_no_descriptor_process_or_memory_behind(facts):
    async with SandboxPool(slots=4, warm=2, limits=SMALL, cache_size=1) as pool:
        await asyncio.gather(*(judge(pool, program, facts) for program in SHORT[:60]))
        await _settled(pool, 2)
        fds, processes, rss = _state()
        for start in range(0, SOAK_JOBS, 60):
            batch = [SHORT[(start + i) % len(SHORT)] for i in range(60)]
            await asyncio.gather(*(judge(pool, program, facts) for program in batch))
        await _settled(pool, 2)
        async with asyncio.timeout(20):
            while _state()[:2] > (fds, processes):  # noqa: ASYNC110 - nor do processes
                await asyncio.sleep(0.01)
        assert _state()[2] < rss + RSS_SLACK_BYTES
        assert pool.statistics()["sandbox_errors_total"] == 0


def test_a_killed_supervisor_leaves_no_process_behind(tmp_path):
    """In mid-suite: workers are busy, asleep, and being made."""
    command = [sys.executable, str(HERE / "suite.py"), "--only", "loops/"]
    with (tmp_path / "output").open("w") as output:
        supervisor = subprocess.Popen(command, stdout=output, stderr=output)
    own = psutil.Process(supervisor.pid)
    deadline = time.monotonic() + 30
    while len(below := own.children(recursive=True)) < 6 and time.monotonic() < deadline:
        time.sleep(0.01)
    victims = [process for process in below if not _is_canary(process)]
    canaries = [process for process in below if process not in victims]
    supervisor.send_signal(signal.SIGKILL)
    supervisor.wait()
    _, alive = psutil.wait_procs(victims, timeout=KILL_SECONDS)
    for process in canaries:
        process.kill()
    assert len(victims) >= 4
    assert alive == []


def _is_canary(process: psutil.Process) -> bool:
    try:
        return "signal.pause()" in " ".join(process.cmdline())
    except psutil.Error:
        return False
