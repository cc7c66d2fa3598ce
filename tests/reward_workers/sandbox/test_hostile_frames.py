"""Whatever a worker sends after its job was delivered is a verdict, and never a sandbox error."""

import asyncio
import os
import signal
import struct

import pytest

from reward_workers.sandbox.backend import Usage
from reward_workers.sandbox.harness import frames
from reward_workers.sandbox.jobs import IO, Case, Limits, Verdict
from reward_workers.sandbox.judging.channel import MAX_HEARD_BYTES
from reward_workers.sandbox.pool import SandboxPool

QUICK = Limits(cpu_seconds=0.3, idle_seconds=0.3, wall_seconds=20)


async def judge(backend, *cases: Case, limits: Limits = QUICK):
    async with SandboxPool(1, 1, backend=backend, limits=limits) as pool:
        return await pool.run_calls(
            "code", entry="f", cases=cases or (Case([1], 2), Case([2], 3)), limits=limits
        )


def raw(*parts: bytes):
    """A worker that loads well, then answers its first call with these bytes."""

    async def script(worker):
        await worker.hear()
        await worker.say(loaded=["f"])
        await worker.hear()
        for part in parts:
            await worker.send(part)
        await worker.hang()

    return script


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


ANSWER = frame(b'{"value":2,"id":0}')


@pytest.mark.parametrize(
    ("sent", "verdict", "words"),
    [
        (frame(b""), Verdict.CRASHED, "broke the protocol"),
        (frame(b"\xff\xfe\x00garbage"), Verdict.CRASHED, "broke the protocol"),
        (frame(b"{}"), Verdict.CRASHED, "another question"),
        (frame(b"[1,2]"), Verdict.CRASHED, "wanted an object"),
        (frame(b"[" * 200_000), Verdict.CRASHED, "broke the protocol"),
        (frame(b'{"value":' + b"[" * 150 + b"]" * 150 + b',"id":0}'), Verdict.FAILED, "deeper"),
        (frame(b'{"value":' + b"9" * 5000 + b',"id":0}'), Verdict.CRASHED, "broke the protocol"),
        (frame(b'{"value":1e999,"id":0}'), Verdict.FAILED, "cannot be read"),
        (frame(b'{"value":{"set":[[1]]},"id":0}'), Verdict.FAILED, "cannot be hashed"),
        (frame(b'{"value":{"handle":[0,"x"]},"id":0}'), Verdict.FAILED, "handle"),
        (frame(b'{"value":2,"id":1}'), Verdict.CRASHED, "another question"),
        (frame(b'{"value":2,"id":false}'), Verdict.CRASHED, "another question"),
        (frame(b'{"value":2}'), Verdict.CRASHED, "another question"),
        (frame(b'{"id":0}'), Verdict.CRASHED, "neither a value nor an error"),
        (frame(b'{"value":2,"error":{},"id":0}'), Verdict.CRASHED, "neither a value nor an error"),
        (frame(b'{"error":3,"id":0}'), Verdict.CRASHED, "broke the protocol"),
        (frame(b'{"error":{"type":[]},"id":0}'), Verdict.CRASHED, "broke the protocol"),
        (
            frame(b'{"error":{"type":"E","message":"\\ud800 \\n\\u0000"},"id":0}'),
            Verdict.FAILED,
            "E:",
        ),
        (frame(b'{"error":{"type":"MemoryError","message":""},"id":0}'), Verdict.OOM, "Memory"),
        (frame(b'{"error":{"type":"SystemExit","message":"0"},"id":0}'), Verdict.CRASHED, "Exit"),
        (struct.pack(">I", 2**32 - 1), Verdict.OUTPUT_LIMIT, "bytes"),
        (struct.pack(">I", frames.MAX_FROM_WORKER + 1), Verdict.OUTPUT_LIMIT, "bytes"),
        (ANSWER + ANSWER, Verdict.CRASHED, "answered"),
        (ANSWER + b"x", Verdict.CRASHED, "answered"),
        (ANSWER[:-3], Verdict.TIMEOUT, "idle"),
        (b"\x00", Verdict.TIMEOUT, "idle"),
    ],
)
async def test_what_is_no_answer_gets_a_verdict(scripted, sent, verdict, words):
    result = await judge(scripted(raw(sent)), Case([1], 2))
    assert result.verdict is verdict
    assert words in result.detail
    assert "\n" not in result.detail and result.detail.encode()


async def test_frames_without_end_stop_the_worker(scripted):
    async def script(worker):
        await worker.hear()
        while True:
            await worker.say(loaded=["f"])

    result = await judge(scripted(script))
    assert (result.verdict, result.passed) == (Verdict.CRASHED, 0)


async def test_a_worker_may_not_keep_the_supervisor_reading(scripted):
    """Each answer is short enough; together they would stop the event loop for seconds."""
    padding = "x" * (frames.MAX_FROM_WORKER - 100)

    async def script(worker):
        await worker.hear()
        await worker.say(loaded=["f"])
        number = 0
        while True:
            await worker.hear()
            await worker.say(value=padding, id=number)
            number += 1

    most = MAX_HEARD_BYTES // frames.MAX_FROM_WORKER
    cases = [Case([number], padding) for number in range(2 * most)]
    result = await judge(scripted(script), *cases)
    assert result.verdict is Verdict.OUTPUT_LIMIT
    assert "in all" in result.detail
    assert result.passed == most


async def test_an_answer_that_comes_before_the_call_is_refused(scripted):
    async def script(worker):
        await worker.hear()
        await worker.say(loaded=["f"])
        await asyncio.sleep(0)
        await worker.hear()
        await worker.send(ANSWER + frame(b'{"value":3,"id":1}'))
        await worker.hang()

    result = await judge(scripted(script))
    assert result.verdict is Verdict.CRASHED
    assert "answered" in result.detail


async def test_a_worker_that_goes_away_has_crashed_and_says_how(scripted):
    async def leaves(worker):
        await worker.hear()
        raise worker.gone(exit_code=0)

    async def is_killed(worker):
        await worker.hear()
        raise worker.gone(None, signal.SIGSEGV)

    result = await judge(scripted(leaves))
    assert (result.verdict, result.detail) == (
        Verdict.CRASHED,
        "its process ended with exit code 0",
    )
    result = await judge(scripted(is_killed))
    assert result.verdict is Verdict.CRASHED and "signal 11" in result.detail


async def test_a_kill_by_the_kernels_cpu_limit_is_a_timeout(scripted):
    async def script(worker):
        await worker.hear()
        raise worker.gone(None, signal.SIGKILL, cpu=QUICK.cpu_seconds)

    assert (await judge(scripted(script))).verdict is Verdict.TIMEOUT


async def test_a_channel_that_is_closed_by_a_living_process_is_a_crash(scripted):
    async def script(worker):
        await worker.hear()
        worker.channel.shutdown(2)
        await worker.hang()

    limits = Limits(idle_seconds=5)
    assert (await judge(scripted(script), limits=limits)).verdict is Verdict.CRASHED


async def test_a_worker_that_reads_nothing_is_idle(scripted):
    async def script(worker):
        await worker.hear()
        await worker.say(loaded=["f"])
        await worker.hang()

    result = await judge(scripted(script), Case(["x" * 4_000_000], 1))
    assert result.verdict is Verdict.TIMEOUT


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_a_flood_is_stopped_even_when_all_answers_are_right(scripted, stream):
    async def script(worker):
        await worker.hear()
        await worker.say(loaded=["f"])
        await worker.hear()
        os.write(getattr(worker, stream), b"x" * 2000)
        await worker.say(value=2, id=0)
        await worker.hang()

    limits = Limits(output_bytes=1999)
    result = await judge(scripted(script), Case([1], 2), limits=limits)
    assert (result.verdict, result.passed) == (Verdict.OUTPUT_LIMIT, 0)
    result = await judge(scripted(script), Case([1], 2), limits=Limits(output_bytes=2000))
    assert result.verdict is Verdict.PASSED


@pytest.mark.parametrize(
    ("usage", "verdict"),
    [
        (Usage(1.0, 0.0, 0, 1), Verdict.TIMEOUT),
        (Usage(0.0, 0.0, 1 << 40, 1), Verdict.OOM),
        (Usage(0.0, 0.0, 0, 33), Verdict.FAILED),
    ],
)
async def test_what_a_worker_uses_is_watched(scripted, usage, verdict):
    async def script(worker):
        await worker.hear()
        worker.usage = usage
        await worker.hang()

    assert (await judge(scripted(script))).verdict is verdict


async def test_a_limit_that_only_the_end_shows_counts_as_well(scripted):
    async def script(worker):
        await worker.hear()
        worker.usage = Usage(9.0, 0.0, 0, 1)
        await worker.say(loaded=["f"])
        await worker.hear()
        await worker.say(value=2, id=0)
        await worker.hang()

    result = await judge(scripted(script), Case([1], 2))
    assert (result.verdict, result.cpu_seconds) == (Verdict.TIMEOUT, 9.0)


async def test_a_use_that_cannot_be_read_is_the_candidates_fault(scripted):
    class Unreadable(scripted):
        def read_usage(self, pid):
            usage = super().read_usage(pid)
            if usage and usage.num_threads == 0:
                raise ValueError("no stat")
            return usage

    async def script(worker):
        await worker.hear()
        worker.usage = Usage(0.0, 0.0, 0, 0)
        await worker.hang()

    assert (await judge(Unreadable(script))).verdict is Verdict.FAILED


async def test_a_program_may_say_nothing_but_an_error(scripted):
    async def script(worker):
        await worker.hear()
        await worker.send(frame(b'{"done":[]}'))
        raise worker.gone(0)

    async with SandboxPool(1, 1, backend=scripted(script)) as pool:
        result = await pool.run_stdio("code", cases=[IO("", "")])
    assert result.verdict is Verdict.CRASHED


async def test_a_long_answer_that_is_read_slowly_is_no_idleness(scripted):
    """As when the supervisor is busy with others' answers: the sender waits for the reader."""

    async def script(worker):
        await worker.hear()
        await worker.say(loaded=["f"])
        await worker.hear()
        answer = frame(b'{"value":"' + b"x" * 1000 + b'","id":0}')
        for at in range(0, len(answer), 20):
            await worker.send(answer[at : at + 20])
            await asyncio.sleep(0.02)
        await worker.hang()

    result = await judge(scripted(script), Case([1], "x" * 1000))
    assert result.verdict is Verdict.PASSED, result
