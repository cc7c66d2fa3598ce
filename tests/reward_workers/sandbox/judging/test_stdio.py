import os
import signal

import pytest

from reward_workers.sandbox.jobs import IO, Result, Verdict
from reward_workers.sandbox.judging.stdio import printed_lines, sum_up
from reward_workers.sandbox.pool import SandboxPool


def printing(text, exit_code: int | None = 0, signal=None, error=None, stderr=b""):
    """A worker whose program prints this and ends like that."""

    async def script(worker):
        job = await worker.hear()
        os.write(worker.stdout, text.replace(b"STDIN", job["stdin"].encode()))
        os.write(worker.stderr, stderr)
        if error:
            await worker.say(error={"type": error, "message": "why", "where": "call"})
        raise worker.gone(exit_code, signal)

    return script


@pytest.fixture
def judge(scripted):
    async def judge(script, *cases):
        async with SandboxPool(2, 1, backend=scripted(script)) as pool:
            return await pool.run_stdio("code", cases=cases)

    return judge


async def test_each_case_runs_in_a_worker_of_its_own(judge):
    result = await judge(printing(b"STDIN!\n"), IO("a", "a!\n"), IO("b", "b!"), IO("c", "x"))
    assert (result.verdict, result.passed, result.total) == (Verdict.FAILED, 2, 3)
    assert result.detail == "case 3: line 1: printed 'c!', wanted another text"


@pytest.mark.parametrize(
    ("script", "verdict", "words"),
    [
        (printing(b"ok", exit_code=3), Verdict.CRASHED, "exit code 3"),
        (
            printing(b"", 1, stderr=b"Traceback\n  x\nKeyError: 3\n\n"),
            Verdict.CRASHED,
            "1: KeyError: 3",
        ),
        (printing(b"ok", None, signal.SIGABRT), Verdict.CRASHED, "signal 6"),
        (printing(b"ok", 1, error="ValueError"), Verdict.FAILED, "ValueError: why"),
        (printing(b"ok", 1, error="MemoryError"), Verdict.OOM, "MemoryError"),
        (printing(b"ok", 3, error="SystemExit"), Verdict.CRASHED, "exit code 3"),
        (printing(b"ok", 0, error="SystemExit"), Verdict.PASSED, ""),
        (printing(b""), Verdict.FAILED, "too few lines: 0"),
        (printing(b"ok\nmore"), Verdict.FAILED, "too many lines: 2"),
        (printing(b"\xff\xfe\x00"), Verdict.FAILED, "line 1"),
        (printing(b"ok", stderr=b"a warning"), Verdict.PASSED, ""),
        (printing(b"ok", stderr=b"x" * 65_000), Verdict.PASSED, ""),
    ],
)
async def test_how_a_program_ends_decides_before_what_it_printed(judge, script, verdict, words):
    result = await judge(script, IO("", "ok"))
    assert result.verdict is verdict
    assert words in result.detail


async def test_what_was_expected_is_never_told(judge):
    assert "secret" not in repr(await judge(printing(b"no"), IO("", "secret")))


def test_trailing_white_space_and_empty_lines_do_not_count():
    assert printed_lines(b"a \t\r\nb\n\n \n") == printed_lines(b"a\nb") == [b"a", b"b"]
    assert printed_lines(b" a") != printed_lines(b"a")
    assert printed_lines(b"a\n\nb") != printed_lines(b"a\nb")
    assert printed_lines(b"") == printed_lines(b"\n\n") == []


def test_sums_and_the_order_of_faults():
    def of(verdict):
        passed = int(verdict is Verdict.PASSED)
        return Result(verdict, passed, 1, verdict, 1.0, 2.0, 30 + passed)

    ok, wrong = of(Verdict.PASSED), of(Verdict.FAILED)
    late, lost = of(Verdict.TIMEOUT), of(Verdict.SANDBOX_ERROR)
    total = sum_up([ok, ok])
    assert total == Result(Verdict.PASSED, 2, 2, "", 2.0, 4.0, 31)
    assert sum_up([ok, wrong, of(Verdict.CRASHED)]).detail == "case 2: failed"
    assert sum_up([wrong, late, ok]).detail == "case 2: timeout"
    assert sum_up([wrong, late, lost]).verdict is Verdict.SANDBOX_ERROR


@pytest.mark.parametrize("cases", [[], [IO("", "\ud800")], [IO("\ud800", "")]])
async def test_cases_that_cannot_be_used_are_the_callers_fault(judge, cases):
    with pytest.raises(ValueError, match="case"):
        await judge(printing(b""), *cases)
