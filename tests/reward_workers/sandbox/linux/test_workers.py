"""How a worker lives and ends."""

import asyncio
import os
import signal

import psutil
import pytest

from reward_workers.sandbox.linux import bwrap


async def test_start_makes_a_worker_that_tests_itself_and_leaves_none(probe, count_fds):
    await probe.backend.start()
    await probe.backend.close()
    assert psutil.Process().children(recursive=True) == []


async def test_a_workers_pid_is_its_pid_out_here_and_no_roots(probe):
    worker = await probe.spawn()
    process = psutil.Process(worker.pid)
    assert process.uids().effective != 0 or os.geteuid() == 0
    if os.geteuid() == 0:
        assert process.uids() == (bwrap.NOBODY,) * 3
    inside = await probe.ask(worker, "import os\nresult = os.getpid()")
    assert (inside != worker.pid) == probe.has_namespaces
    await probe.discard(worker)
    assert not psutil.pid_exists(worker.pid)


async def test_usage_counts_cpu_time_memory_and_threads(probe):
    worker = await probe.spawn()
    code = """
        import builtins, threading, time
        threads = [threading.Thread(target=time.sleep, args=(60,), daemon=True) for _ in range(3)]
        [t.start() for t in threads]
        builtins.held = b"x" * 50_000_000  # for as long as it lives
        until = time.process_time() + 0.3
        while time.process_time() < until: pass
        result = len(builtins.held)
    """
    before = probe.backend.read_usage(worker.pid)
    assert await probe.ask(worker, code) == 50_000_000
    after = probe.backend.read_usage(worker.pid)
    assert before.num_threads == 1 and after.num_threads == 4
    assert 0.25 <= after.cpu_seconds - before.cpu_seconds < 2
    assert before.resident_bytes < 50_000_000 <= after.resident_bytes + before.resident_bytes
    assert after.waiting_seconds >= before.waiting_seconds >= 0
    await probe.discard(worker)
    assert probe.backend.read_usage(worker.pid) is None


@pytest.mark.parametrize(
    ("code", "exit_code", "ended_by"),
    [
        ("import os; os._exit(0)", 0, None),
        ("import os; os._exit(7)", 7, None),
        ("import sys; sys.exit(3)", 3, None),
        ("import os; os.abort()", None, signal.SIGABRT),
        ("import ctypes; ctypes.string_at(0)", None, signal.SIGSEGV),
    ],
)
async def test_how_a_worker_ended_is_told(probe, code, exit_code, ended_by):
    ended = await probe.end_of(code)
    assert (ended.exit_code, ended.signal) == (exit_code, ended_by)
    assert 0 <= ended.cpu_seconds < 5 and 1e6 < ended.peak_bytes < 1e9


async def test_a_kill_ends_a_worker_that_ignores_signals_and_may_come_twice(probe):
    worker = await probe.spawn()
    await probe.say(
        worker,
        """
        import signal
        for number in range(1, 32):
            try: signal.signal(number, signal.SIG_IGN)
            except OSError: pass
        while True: pass
        """,
    )
    worker.kill()
    worker.kill()
    ended = await asyncio.wait_for(worker.ended, 10)
    assert (ended.exit_code, ended.signal) == (None, signal.SIGKILL)
    probe.close_fds(worker)


async def test_a_worker_whose_supervisor_hangs_up_ends(probe):
    worker = await probe.spawn()
    worker.channel.close()
    assert (await asyncio.wait_for(worker.ended, 10)).exit_code == 1  # EOFError
    os.close(worker.stdout)
    os.close(worker.stderr)


async def test_output_arrives_on_the_pipes(probe):
    worker = await probe.spawn()
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr, flush=True)"
    await probe.ask(worker, code)
    assert (os.read(worker.stdout, 99), os.read(worker.stderr, 99)) == (b"out\n", b"err\n")
    await probe.discard(worker)
