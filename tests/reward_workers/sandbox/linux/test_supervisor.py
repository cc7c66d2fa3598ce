"""What is left when the supervisor dies, and who may be one."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

SUPERVISOR = """
import asyncio, sys, psutil
sys.path.insert(0, {here!r})
import conftest
async def main():
    probe = conftest.Probe(conftest.{way})
    idle, busy = await probe.spawn(), await probe.spawn()
    await probe.say(busy, "while True: pass")
    children = psutil.Process().children(recursive=True)
    print(*[child.pid for child in children], flush=True)
    await asyncio.get_running_loop().create_future()
asyncio.run(main())
"""


def test_nothing_outlives_a_supervisor_that_was_killed(probe):
    here = Path(__file__).parent
    program = SUPERVISOR.format(here=str(here), way=type(probe.backend).__name__)
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(here.parents[3])},
    ) as supervisor:
        assert supervisor.stdout is not None
        processes = [psutil.Process(int(pid)) for pid in supervisor.stdout.readline().split()]
        assert len(processes) >= 4
        supervisor.kill()
        _, left = psutil.wait_procs(processes, timeout=2)
    assert [process for process in left if is_alive(process)] == []


def is_alive(process: psutil.Process) -> bool:
    """Not so if it has ended and init, which is busy, has not asked for its code yet."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="the tests beside have run as an ordinary user")
def test_all_of_this_holds_for_an_ordinary_user():
    here = Path(__file__).parent
    line = [sys.executable, str(here.parent / "as_nobody.py"), sys.executable, "-m", "pytest"]
    line += ["-q", "-p", "no:cacheprovider", str(here), str(here.parent / "test_layers.py")]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:]
