import asyncio

import pytest

from protocol.errors import SandboxUnavailable
from reward_workers.sandbox.jobs import IO, Case, Limits, Verdict
from reward_workers.sandbox.pool import SandboxPool

CASES = [Case([1], 1)]


async def passes(worker):
    await worker.hear()
    await worker.say(loaded=["f"])
    while True:
        call = await worker.hear()
        await worker.say(value=call["args"][0], id=call["id"])


async def hangs(worker):
    await worker.hear()
    await worker.hang()


async def is_lost(worker):
    worker.channel.shutdown(2)
    await worker.hang()


async def burst(pool, count, code="code {}"):
    jobs = [pool.run_calls(code.format(n), entry="f", cases=CASES) for n in range(count)]
    return await asyncio.gather(*jobs)


async def test_a_burst_is_served_from_spares(scripted, count_fds):
    before, backend = count_fds(), scripted(passes)
    async with SandboxPool(4, 64, backend=backend) as pool:
        assert pool.statistics()["warm"] == 64
        results = await burst(pool, 64)
        assert {result.verdict for result in results} == {Verdict.PASSED}
        statistics = pool.statistics()
        assert (statistics["running"], statistics["queue"]) == (0, 0)
        assert statistics["jobs_total"] == statistics["verdicts_passed_total"] == 64
        assert all(isinstance(value, float) for value in statistics.values())
    assert backend.closed and not backend.workers
    assert len(backend.killed) == backend.spawned
    assert count_fds() == before


async def test_slots_bound_what_runs_and_the_queue_is_first_come_first_served(scripted):
    started, running, most = [], 0, 0

    async def counts(worker):
        nonlocal running, most
        job = await worker.hear()
        started.append(job["code"])
        running += 1
        most = max(most, running)
        await worker.say(loaded=["f"])
        await worker.hear()
        await asyncio.sleep(0.001)
        running -= 1
        await worker.say(value=1, id=0)
        await worker.hang()

    async with SandboxPool(3, 0, backend=scripted(counts)) as pool:
        await burst(pool, 12)
    assert most == 3
    assert started == [f"code {n}" for n in range(12)]


async def test_equal_jobs_run_once(scripted):
    backend = scripted(passes)
    async with SandboxPool(4, 0, backend=backend) as pool:
        results = await burst(pool, 16, code="the same")
        again = await pool.run_calls("the same", entry="f", cases=CASES)
        other = await pool.run_calls("the same", entry="f", cases=[Case([1], 1.0)])
        hits = pool.statistics()["cache_hits_total"]
    assert (backend.spawned, hits) == (2, 16)
    assert [result.cached for result in results] == [False] + [True] * 15
    assert again.cached and not other.cached
    assert other.verdict is Verdict.FAILED


async def test_a_worker_that_is_lost_before_its_job_is_replaced(scripted):
    backend = scripted(is_lost, is_lost, passes)
    async with SandboxPool(1, 0, backend=backend) as pool:
        (result,) = await burst(pool, 1)
        statistics = pool.statistics()
    assert result.verdict is Verdict.PASSED
    assert (statistics["sandbox_errors_total"], statistics["verdicts_sandbox_error_total"]) == (
        2,
        0,
    )


async def test_three_faults_are_a_sandbox_error_and_are_not_remembered(scripted, fault):
    backend = scripted(fault, fault, fault, passes)
    async with SandboxPool(1, 0, backend=backend) as pool:
        (first,), (second,) = await burst(pool, 1), await burst(pool, 1)
    assert (first.verdict, first.detail) == (Verdict.SANDBOX_ERROR, "no worker today")
    assert (first.passed, first.total) == (0, 1)
    assert second.verdict is Verdict.PASSED


async def test_a_bug_of_ours_is_a_sandbox_error_and_is_logged(scripted, monkeypatch, caplog):
    async def breaks(job, workers):
        async with workers.borrow():
            raise KeyError("a bug")

    monkeypatch.setattr("reward_workers.sandbox.pool.judge_calls", breaks)
    backend = scripted(passes)
    async with SandboxPool(1, 0, backend=backend) as pool:
        (result,) = await burst(pool, 1)
        assert not backend.workers
    assert result.verdict is Verdict.SANDBOX_ERROR
    assert "our bug" in caplog.text


async def test_a_job_that_is_cancelled_leaves_nothing_behind(scripted, count_fds, until):
    before, backend = count_fds(), scripted(hangs)
    async with SandboxPool(2, 0, backend=backend) as pool:
        job = asyncio.create_task(burst(pool, 5))
        await until(lambda: len(backend.workers) == 2)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        await until(lambda: not pool.statistics()["running"])
        assert not backend.workers
        assert pool.statistics()["queue"] == 0
    assert count_fds() == before


async def test_closing_the_pool_ends_jobs_that_run(scripted, until):
    backend = scripted(hangs)
    async with SandboxPool(1, 0, backend=backend) as pool:
        jobs = [asyncio.create_task(pool.run_stdio("code", cases=[IO("", "")])) for _ in range(2)]
        await until(lambda: backend.workers)
    assert not backend.workers
    for outcome in await asyncio.gather(*jobs, return_exceptions=True):
        assert isinstance(outcome, RuntimeError) and "closed" in str(outcome)


async def test_a_pool_that_cannot_start_says_so_and_leaves_nothing(scripted, fault):
    class Missing(scripted):
        async def start(self):
            raise SandboxUnavailable("no namespaces")

    for backend, words in (
        (Missing(passes), "no namespaces"),
        (scripted(fault), "no worker today"),
    ):
        with pytest.raises(SandboxUnavailable, match=words):
            async with SandboxPool(1, 2, backend=backend):
                pass
        assert backend.closed


async def test_a_pool_that_is_not_open_refuses(scripted):
    pool = SandboxPool(1, backend=scripted(passes))
    with pytest.raises(RuntimeError, match="async with"):
        await burst(pool, 1)
    assert pool.statistics()["jobs_total"] == 0
    with pytest.raises(ValueError, match="slots"):
        SandboxPool(0, backend=scripted(passes))


async def test_code_that_is_too_long_is_the_candidates_fault_and_no_str_the_callers(scripted):
    backend = scripted(passes)
    async with SandboxPool(1, 0, backend=backend) as pool:
        result = await pool.run_calls("é" * (1 << 19) + "x", entry="f", cases=CASES)
        assert (result.verdict, backend.spawned) == (Verdict.FAILED, 0)
        with pytest.raises(ValueError, match="code is a bytes"):
            await pool.run_calls(b"code", entry="f", cases=CASES)  # type: ignore[arg-type]
        assert (await pool.run_calls("\ud800", entry="f", cases=CASES)).passed == 1


async def test_results_tell_what_was_degraded(scripted):
    backend = scripted(passes)
    backend.degraded = ("namespaces",)
    async with SandboxPool(1, 0, backend=backend, limits=Limits()) as pool:
        (result,) = await burst(pool, 1)
    assert result.degraded == ("namespaces",)
