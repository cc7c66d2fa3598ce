import asyncio

import pytest

from reward_workers.sandbox.backend import SandboxFault
from reward_workers.sandbox.jobs import Limits
from reward_workers.sandbox.warm import WarmSpares


async def waits(worker):
    await worker.hang()


@pytest.fixture
def make_spares(scripted):
    def make(num_spares, *scripts, is_busy=lambda: False):
        backend = scripted(*(scripts or (waits,)))
        return backend, WarmSpares(backend, num_spares, is_busy)

    return make


async def test_spares_are_made_ahead_and_replaced(make_spares, until, count_fds):
    before = count_fds()
    backend, spares = make_spares(6)
    await spares.fill(Limits())
    assert spares.num_ready() == 6
    taken = [await spares.take(Limits()) for _ in range(6)]
    assert len(set(map(id, taken))) == 6
    await until(lambda: spares.num_ready() == 6)
    for candidate in taken:
        await candidate.close()
    await spares.close()
    await backend.close()
    assert len(backend.killed) == backend.spawned == 12
    assert count_fds() == before


async def test_no_spare_is_made_while_jobs_wait(make_spares, until):
    busy = False
    backend, spares = make_spares(2, is_busy=lambda: busy)
    await spares.fill(Limits())
    busy = True
    taken = [await spares.take(Limits()) for _ in range(4)]
    assert (spares.num_ready(), backend.spawned) == (0, 4)
    busy = False
    spares.refill()
    await until(lambda: spares.num_ready() == 2)
    for candidate in taken:
        await candidate.close()
    await spares.close()


async def test_a_spare_that_died_is_not_handed_out(make_spares):
    async def dies(worker):
        raise worker.gone(1)

    _, spares = make_spares(1, dies, waits)
    await spares.fill(Limits())
    candidate = await spares.take(Limits())
    assert not candidate.has_ended
    await candidate.close()
    await spares.close()


async def test_a_fault_is_told_to_the_job_that_waited(make_spares, fault):
    _, spares = make_spares(2, fault)
    with pytest.raises(SandboxFault, match="no worker today"):
        await spares.fill(Limits())
    with pytest.raises(SandboxFault, match="no worker today"):
        await spares.take(Limits())
    await spares.close()


async def test_spares_are_kept_for_the_four_limits_used_last(make_spares, until):
    backend, spares = make_spares(4)
    for megabytes in range(16, 22):
        candidate = await spares.take(Limits(memory_bytes=megabytes << 20))
        await candidate.close()
    await until(lambda: spares.num_ready() >= 4)
    assert spares.num_ready() <= 9
    await spares.close()
    assert not backend.workers


async def test_a_worker_for_a_job_that_left_becomes_a_spare(make_spares, until):
    _, spares = make_spares(0)
    job = asyncio.create_task(spares.take(Limits()))
    await asyncio.sleep(0)
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)
    await until(lambda: spares.num_ready() == 1)
    await spares.close()
