"""What bounds a worker before its meter does."""

import asyncio
import signal

from reward_workers.sandbox.jobs import Limits
from reward_workers.sandbox.linux.backend import LinuxFresh


async def test_tmp_is_bounded_in_bytes_and_in_files(namespaced):
    code = """
        import os
        def fill(number, num_bytes):
            try:
                for index in range(number):
                    with open(f"/tmp/{index}", "wb") as file: file.write(bytes(num_bytes))
            except OSError as error: return error.strerror
        result = [fill(20, 1 << 18)]
        for name in os.listdir("/tmp"): os.unlink(f"/tmp/{name}")
        result += [fill(5000, 0)]
    """
    full = "No space left on device"
    assert await namespaced.answer(code, Limits(tmp_bytes=4 << 20)) == [full, full]


async def test_one_file_is_bounded(probe):
    code = "open('big', 'wb').write(bytes(3 << 20))"
    said = await probe.answer(code, Limits(tmp_bytes=1 << 20))
    assert "File too large" in said or "No space left" in said


async def test_two_workers_share_no_folder(namespaced):
    first, second = await asyncio.gather(namespaced.spawn(), namespaced.spawn())
    await namespaced.ask(first, "open('/tmp/mine', 'w').close()")
    assert await namespaced.ask(second, "import os; result = os.listdir('/tmp')") == []
    await namespaced.discard(first)
    await namespaced.discard(second)


async def test_memory_is_bounded_by_an_error(probe):
    code = "held = bytearray({0} << 20); result = len(held) >> 20"
    limits = Limits(memory_bytes=64 << 20)
    assert await probe.answer(code.format(48), limits) == 48
    assert await probe.answer(code.format(80), limits) == "MemoryError: "


async def test_descriptors_are_bounded(probe):
    code = """
        import os
        held = []
        try:
            while True: held.append(os.dup(0))
        except OSError as error: pass
        result = len(held)
    """
    assert await probe.answer(code, Limits(max_fds=16)) == 12


async def test_cpu_time_is_bounded_behind_the_meter(probe):
    ended = await probe.end_of("while True: pass", Limits(cpu_seconds=0.2))
    assert ended.signal == signal.SIGKILL and 1.0 < ended.cpu_seconds < 4


async def test_the_kernel_bounds_threads_where_it_counts_them_alone(make_probe):
    probe = make_probe(LinuxFresh)
    code = """
        import threading
        stop = threading.Event()
        threads = []
        try:
            while len(threads) < 40:
                threads.append(threading.Thread(target=stop.wait, daemon=True)); threads[-1].start()
        except RuntimeError: pass
        stop.set(); result = len(threads)
    """
    assert 4 <= await probe.answer(code, Limits(max_threads=8)) <= 9
