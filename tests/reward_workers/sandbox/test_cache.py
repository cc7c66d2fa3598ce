import asyncio

import pytest

from reward_workers.sandbox.cache import VerdictCache, key_of
from reward_workers.sandbox.jobs import Result, Verdict


class Runs:
    """A job that is run when the test lets it, with these verdicts in turn."""

    def __init__(self, *verdicts: Verdict) -> None:
        self.verdicts = list(verdicts)
        self.started = 0
        self.cancelled = 0
        self.go = asyncio.Event()

    async def __call__(self) -> Result:
        self.started += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Result(self.verdicts.pop(0), 1, 1)


async def begin(cache, run, count):
    tasks = [asyncio.create_task(cache.get(b"key", run)) for _ in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert run.started
    return tasks


@pytest.mark.parametrize("verdict", list(Verdict))
async def test_only_verdicts_that_last_are_kept(verdict):
    cache, run = VerdictCache(10), Runs(verdict, verdict)
    run.go.set()
    first, second = await cache.get(b"key", run), await cache.get(b"key", run)
    kept = verdict not in (Verdict.TIMEOUT, Verdict.SANDBOX_ERROR)
    assert not first.cached
    assert (second.cached, run.started, cache.hits) == ((True, 1, 1) if kept else (False, 2, 0))


@pytest.mark.parametrize("verdict", [Verdict.PASSED, Verdict.TIMEOUT])
async def test_equal_jobs_share_one_run(verdict):
    cache, run = VerdictCache(10), Runs(verdict)
    tasks = await begin(cache, run, 5)
    run.go.set()
    results = await asyncio.gather(*tasks)
    assert run.started == 1
    assert [result.cached for result in results] == [False, True, True, True, True]


async def test_a_sandbox_error_is_not_shared_but_tried_once_more_together():
    cache, run = VerdictCache(10), Runs(Verdict.SANDBOX_ERROR, Verdict.PASSED)
    tasks = await begin(cache, run, 4)
    run.go.set()
    verdicts = [result.verdict for result in await asyncio.gather(*tasks)]
    assert verdicts == [Verdict.SANDBOX_ERROR] + [Verdict.PASSED] * 3
    assert run.started == 2


async def test_whoever_came_first_may_leave_without_harm_to_the_others():
    cache, run = VerdictCache(10), Runs(Verdict.PASSED)
    first, second = await begin(cache, run, 2)
    first.cancel()
    await asyncio.sleep(0)
    run.go.set()
    assert (await second).verdict is Verdict.PASSED
    assert (run.started, run.cancelled) == (1, 0)


async def test_a_run_for_which_nobody_waits_ends():
    cache, run = VerdictCache(10), Runs(Verdict.PASSED)
    tasks = await begin(cache, run, 2)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await cache.close()
    assert run.cancelled == 1
    run.go.set()
    assert (await cache.get(b"key", run)).verdict is Verdict.PASSED


async def test_closing_tells_those_who_wait():
    cache, run = VerdictCache(10), Runs(Verdict.PASSED)
    (task,) = await begin(cache, run, 1)
    await cache.close()
    with pytest.raises(RuntimeError, match="closed"):
        await task


async def test_the_least_recently_used_verdict_goes_first():
    cache, run = VerdictCache(2), Runs(*[Verdict.PASSED] * 9)
    run.go.set()
    for key in (b"a", b"b", b"a", b"c"):
        await cache.get(key, run)
    assert (await cache.get(b"a", run)).cached
    assert not (await cache.get(b"b", run)).cached
    assert not (await VerdictCache(0).get(b"a", run)).cached


def test_a_key_tells_types_and_borders_apart():
    parts = [("ab", "c"), ("a", "bc"), (1,), (True,), (1.0,), ("1",), (None,), ([1],), ("\ud800",)]
    assert len({key_of(*part) for part in parts}) == len(parts)
    assert key_of("a", (1, [2])) == key_of("a", (1, [2]))
