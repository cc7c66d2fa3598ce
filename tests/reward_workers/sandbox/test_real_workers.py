"""Programs of every kind in really confined workers, in all modes."""

import sys
from collections.abc import AsyncIterator

import pytest

from reward_workers.sandbox.jobs import IO, Case, Limits, Verdict
from reward_workers.sandbox.pool import SandboxPool

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

QUICK = Limits(cpu_seconds=1, idle_seconds=1, memory_bytes=192 << 20)

HONEST = "def f(x):\n    return x + 1\n"
LIAR = """
class Liar(int):
    def __eq__(self, other):
        return True
    def __ne__(self, other):
        return False
    def __str__(self):
        return "2"
    __hash__ = int.__hash__

def f(x):
    return Liar(7)
"""
PROGRAMS = {
    "honest": (HONEST, Verdict.PASSED),
    "wrong": ("def f(x):\n    return x\n", Verdict.FAILED),
    "never ends": ("def f(x):\n    while True: pass\n", Verdict.TIMEOUT),
    "sleeps": ("import time\ndef f(x):\n    time.sleep(99)\n", Verdict.TIMEOUT),
    "forks": ("import os\ndef f(x):\n    os.fork()\n    return x + 1\n", Verdict.FAILED),
    "exits in the call": ("import sys\ndef f(x):\n    sys.exit(0)\n", Verdict.CRASHED),
    "exits at load": ("import os\nos._exit(0)\n", Verdict.CRASHED),
    "floods": ("def f(x):\n    while True: print('x' * 999)\n", Verdict.OUTPUT_LIMIT),
    "eats memory": (
        "def f(x):\n    a = []\n    while True: a.append(bytes(1 << 20))\n",
        Verdict.OOM,
    ),
    "cannot be read": ("def f(x:\n", Verdict.FAILED),
    "agrees with everything": (LIAR, Verdict.FAILED),
}
ENDS_AS_PROGRAM = {
    "forks": Verdict.CRASHED,  # an exception: exit code 1
    "exits in the call": Verdict.FAILED,  # exit code 0, and nothing was printed
    "exits at load": Verdict.FAILED,
    "cannot be read": Verdict.CRASHED,
    "agrees with everything": Verdict.PASSED,  # what it prints is right
}


@pytest.fixture(params=["fork", "fresh"])
async def pool(request) -> AsyncIterator[SandboxPool]:
    if request.param == "fork" and sys.platform != "linux":
        pytest.skip("only Linux clones workers")
    async with SandboxPool(2, 2, start=request.param, limits=QUICK) as pool:
        yield pool
        assert pool.statistics()["sandbox_errors_total"] == 0


async def test_every_kind_of_program_gets_its_verdict_by_its_values(pool):
    cases = [Case([1], 2)]
    for name, (code, verdict) in PROGRAMS.items():
        result = await pool.run_calls(code, entry="f", cases=cases, limits=QUICK)
        assert result.verdict is verdict, (name, result)
        assert result.passed == int(verdict is Verdict.PASSED)


async def test_every_kind_of_program_gets_its_verdict_by_tests(pool):
    for name, (code, verdict) in PROGRAMS.items():
        result = await pool.run_tests(code, tests="assert f(1) == 2", entry="f", limits=QUICK)
        assert result.verdict is verdict, (name, result)
        assert result.passed == int(verdict is Verdict.PASSED)


async def test_every_kind_of_program_gets_its_verdict_by_what_it_prints(pool):
    for name, (code, verdict) in PROGRAMS.items():
        program = f"{code}\nprint(f(int(input())))\n"
        result = await pool.run_stdio(program, cases=[IO("1\n", "2\n")], limits=QUICK)
        assert result.verdict is ENDS_AS_PROGRAM.get(name, verdict), (name, result)


async def test_a_result_tells_what_was_used(pool):
    code = "def f(x):\n    big = bytearray(64 << 20)\n    return sum(range(2_000_000)) and x + 1\n"
    result = await pool.run_calls(code, entry="f", cases=[Case([1], 2)], limits=QUICK)
    assert result.verdict is Verdict.PASSED
    assert 0 < result.cpu_seconds < 1
    assert result.wall_seconds > 0
    assert result.peak_bytes > 64 << 20


async def test_no_descriptor_is_lost(pool, count_fds, until):
    codes = [f"{HONEST}# {number}" for number in range(3)]
    before = None
    for code in codes:
        await pool.run_calls(code, entry="f", cases=[Case([1], 2)], limits=QUICK)
        await until(lambda: pool.statistics()["warm"] == 2)
        before = before or count_fds()
        assert count_fds() == before
