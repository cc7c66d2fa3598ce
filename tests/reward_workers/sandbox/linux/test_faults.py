"""Workers that cannot be made, and what is left of them: nothing."""

import asyncio
import signal

import psutil
import pytest

from protocol.errors import SandboxUnavailable
from reward_workers.sandbox.backend import SandboxFault
from reward_workers.sandbox.linux.backend import LinuxFork, LinuxFresh

BROKEN = {
    "landlock": (b"\ndef restrict(*_, **__): pass\n", "could read"),
    "seccomp": (b"\nFilter.install = lambda *_: None\n", "could "),
}


@pytest.mark.parametrize("layer", BROKEN)
async def test_the_self_test_notices_a_layer_that_does_not_hold(layer, make_probe):
    source, complaint = BROKEN[layer]
    probe = make_probe(LinuxFork, **{layer: source})
    with pytest.raises(SandboxFault, match=rf"EscapeError.*{complaint}"):
        await probe.spawn()
    with pytest.raises(SandboxUnavailable, match=r"sandbox layer 'self-test' is missing: .*could"):
        await probe.backend.start()


async def test_a_worker_that_cannot_be_made_is_a_fault_and_leaks_nothing(make_probe, count_fds):
    probe = make_probe(LinuxFork, init=b"\n_MS_PRIVATE = -1\n")
    with pytest.raises(SandboxFault, match=r"a worker could not be made: .*mount"):
        await probe.spawn()
    before = count_fds()
    for _ in range(5):
        with pytest.raises(SandboxFault):
            await probe.spawn()
    assert count_fds() == before
    await probe.backend.close()


async def test_a_harness_that_cannot_start_is_a_fault_with_its_last_words(make_probe):
    probe = make_probe(LinuxFork, start=b"\nraise ValueError('no harness')\n")
    with pytest.raises(SandboxFault, match="the zygote did not start: ValueError: no harness"):
        await probe.spawn()
    await probe.backend.close()


async def test_a_zygote_that_was_killed_is_replaced(make_probe):
    probe = make_probe(LinuxFork)
    worker = await probe.spawn()
    for process in psutil.Process().children():
        process.kill()
    assert (await asyncio.wait_for(worker.ended, 10)).signal == signal.SIGKILL
    await probe.discard(worker)
    assert await probe.answer("result = 1") == 1
    await probe.backend.close()


@pytest.mark.parametrize(("way", "num_spawns"), [(LinuxFork, 300), (LinuxFresh, 30)])
async def test_descriptors_do_not_leak(way, num_spawns, make_probe, count_fds):
    probe = make_probe(way)
    await probe.discard(await probe.spawn())
    before = count_fds()

    async def lane():
        for _ in range(num_spawns // 6):
            await probe.discard(await probe.spawn())

    await asyncio.gather(*(lane() for _ in range(6)))
    await probe.backend.close()
    assert count_fds() <= before


async def test_a_cancelled_spawn_leaves_nothing(probe, count_fds):
    await probe.discard(await probe.spawn())
    before = count_fds()
    for num_turns in range(8):
        spawning = asyncio.create_task(probe.spawn())
        for _ in range(num_turns):
            await asyncio.sleep(0)
        spawning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await spawning
    await probe.discard(await probe.spawn())
    await probe.backend.close()
    assert count_fds() <= before
