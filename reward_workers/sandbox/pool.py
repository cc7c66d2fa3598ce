"""A pool of confined workers that judge untrusted code.

Expected values and verdicts never enter a candidate's process: it is asked for values, and they are
compared out here (calls.py, stdio.py, relay.py). A worker serves one job and is killed after it.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Literal

from protocol.errors import SandboxUnavailable
from protocol.process import num_cores
from reward_workers.sandbox.backend import Backend, SandboxFault
from reward_workers.sandbox.cache import VerdictCache, key_of
from reward_workers.sandbox.jobs import IO, Case, Equality, Limits, Result, Verdict
from reward_workers.sandbox.judging.calls import judge_calls, prepare_calls
from reward_workers.sandbox.judging.questions import check_code
from reward_workers.sandbox.judging.relay import judge_tests, prepare_tests
from reward_workers.sandbox.judging.stdio import judge_stdio, prepare_stdio, sum_up
from reward_workers.sandbox.judging.verdicts import one_line
from reward_workers.sandbox.judging.workers import Workers
from reward_workers.sandbox.select import choose_backend
from reward_workers.sandbox.warm import WarmSpares

log = logging.getLogger("reward_workers")

MAX_TRIES = 3
"""Times that a job is tried when the sandbox is at fault."""

Judge = Callable[[Workers], Awaitable[Result]]


class SandboxPool:
    """Judges code; an async context manager, for one event loop. See jobs.Sandbox for its calls.

    Args:
        slots: jobs to run at a time; by default one for each CPU, at least 2.
        warm: spare workers to keep ready; by default two for each slot.
        limits: those to make the first spares for.
        start: how workers come to be: "fork", "fresh", or "auto" for the best one here.
        allow_degraded: layers of confinement that may be missing.
        packages: folder of packages that candidates may import.
        cache_size: verdicts to remember.
        backend: the backend itself, in place of the three arguments that choose it.
    """

    def __init__(
        self,
        slots: int | None = None,
        warm: int | None = None,
        *,
        limits: Limits = Limits(),
        start: Literal["auto", "fork", "fresh"] = "auto",
        allow_degraded: Collection[str] = (),
        packages: Path | None = None,
        cache_size: int = 10_000,
        backend: Backend | None = None,
    ) -> None:
        num_slots = max(2, num_cores()) if slots is None else slots
        num_spares = 2 * num_slots if warm is None else warm
        if num_slots < 1 or num_spares < 0:
            raise ValueError(f"slots is {slots}, warm is {warm}: wanted at least 1 and 0")
        self._limits = limits
        self._choose = lambda: (
            backend or choose_backend(start=start, allow_degraded=allow_degraded, packages=packages)
        )
        self._num_spares = num_spares
        self._slots = asyncio.Semaphore(num_slots)
        self._cache = VerdictCache(cache_size)
        self._backend: Backend | None = None
        self._spares: WarmSpares | None = None
        self._queued = 0
        self._running = 0
        self._sandbox_errors = 0
        self._verdicts: Counter[Verdict] = Counter()
        self._job_seconds = 0.0

    async def __aenter__(self) -> "SandboxPool":
        """Checks the confinement and makes the first spares.

        Raises:
            SandboxUnavailable: a layer is missing; the message names it and the remedy.
        """
        backend = self._choose()
        spares = WarmSpares(backend, self._num_spares, lambda: self._queued > 0)
        try:
            await backend.start()
            await spares.fill(self._limits)
        except SandboxFault as fault:
            await _close(spares, backend)
            raise SandboxUnavailable(f"no worker could be made: {fault}") from fault
        except BaseException:
            await _close(spares, backend)
            raise
        self._backend, self._spares = backend, spares
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends all jobs and all workers."""
        backend, spares = self._opened()
        self._backend = self._spares = None
        await self._cache.close()
        await _close(spares, backend)

    async def run_calls(
        self,
        code: str,
        *,
        entry: str,
        cases: Sequence[Case],
        limits: Limits = Limits(),
        equality: Equality = Equality(),
    ) -> Result:
        """Calls `entry` (a function's name, or Class.method) once for each case, in one process.

        Raises:
            ValueError: an argument cannot be used; the message names it.
        """
        job = prepare_calls(code, entry, cases, equality)
        key = self._key("calls", code, limits, entry, job.cases, vars(equality))
        return await self._run(
            key,
            code,
            len(cases),
            lambda: self._try(len(cases), limits, lambda workers: judge_calls(job, workers)),
        )

    async def run_stdio(
        self, code: str, *, cases: Sequence[IO], limits: Limits = Limits()
    ) -> Result:
        """Runs the program once for each case, in a process of its own.

        Raises:
            ValueError: an argument cannot be used; the message names it.
        """
        programs = prepare_stdio(code, cases)

        async def run() -> Result:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(
                        self._try(1, limits, lambda workers, p=program: judge_stdio(p, workers))
                    )
                    for program in programs
                ]
            return sum_up([task.result() for task in tasks])

        texts = [(case.stdin, case.expected_stdout) for case in cases]
        return await self._run(self._key("stdio", code, limits, texts), code, len(cases), run)

    async def run_tests(
        self,
        code: str,
        *,
        tests: str | Sequence[str],
        entry: str,
        support: str = "",
        limits: Limits = Limits(),
    ) -> Result:
        """Runs test code in a second confined process, where the candidate is a proxy.

        Raises:
            ValueError: an argument cannot be used; the message names it.
        """
        job = prepare_tests(code, tests, entry, support)
        key = self._key("tests", code, limits, job.tests, entry, support)
        return await self._run(
            key,
            code,
            len(job.tests),
            lambda: self._try(len(job.tests), limits, lambda workers: judge_tests(job, workers)),
        )

    def statistics(self) -> dict[str, float]:
        """What the pool does and has done, by flat names."""
        spares = self._spares
        counts = {f"verdicts_{verdict}_total": self._verdicts[verdict] for verdict in Verdict}
        return {
            "queue": float(self._queued),
            "running": float(self._running),
            "warm": float(spares.num_ready() if spares else 0),
            "spawned_total": float(spares.spawned if spares else 0),
            "cache_hits_total": float(self._cache.hits),
            "sandbox_errors_total": float(self._sandbox_errors),
            "jobs_total": float(self._verdicts.total()),
            "job_seconds_total": self._job_seconds,
            **{name: float(count) for name, count in counts.items()},
        }

    async def _run(
        self, key: bytes, code: str, total: int, run: Callable[[], Awaitable[Result]]
    ) -> Result:
        """One job: from the cache, by the run of an equal one, or by its own."""
        backend, _ = self._opened()
        started_at = time.monotonic()
        if too_long := check_code(code):
            result = Result(too_long.verdict, 0, total, too_long.detail)
        else:
            result = await self._cache.get(key, run)
        self._verdicts[result.verdict] += 1
        self._job_seconds += time.monotonic() - started_at
        return replace(result, degraded=tuple(backend.degraded))

    async def _try(self, total: int, limits: Limits, judge: Judge) -> Result:
        """Waits for a slot, then runs a judge, again with new workers where the sandbox fails."""
        _, spares = self._opened()
        self._queued += 1
        try:
            await self._slots.acquire()
        finally:
            self._queued -= 1
        self._running += 1
        try:
            return await self._try_in_slot(total, judge, Workers(spares, limits))
        finally:
            self._running -= 1
            self._slots.release()
            spares.refill()

    async def _try_in_slot(self, total: int, judge: Judge, workers: Workers) -> Result:
        fault = ""
        for _ in range(MAX_TRIES):
            try:
                return await judge(workers)
            except SandboxFault as error:
                fault = str(error)
                log.warning("the sandbox failed, which is no verdict: %s", one_line(fault))
            except Exception as error:
                fault = f"{type(error).__name__}: {error}"
                log.exception("a judge failed, which is our bug and no verdict")
            self._sandbox_errors += 1
        return Result(Verdict.SANDBOX_ERROR, 0, total, one_line(fault))

    def _key(self, mode: str, code: str, limits: Limits, *parts: object) -> bytes:
        backend, _ = self._opened()
        if not isinstance(code, str):
            raise ValueError(f"code is a {type(code).__name__}, wanted a str")
        return key_of(mode, code, vars(limits), backend.name, list(backend.degraded), *parts)

    def _opened(self) -> tuple[Backend, WarmSpares]:
        if self._backend is None or self._spares is None:
            raise RuntimeError("the sandbox pool is not open: use it within `async with`")
        return self._backend, self._spares


async def _close(spares: WarmSpares, backend: Backend) -> None:
    await spares.close()
    await backend.close()
