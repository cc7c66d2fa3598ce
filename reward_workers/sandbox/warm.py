"""Warm spares: workers that are confined and ready before anybody asks for them."""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable

from protocol.process import num_cores
from reward_workers.sandbox.backend import Backend, SandboxFault
from reward_workers.sandbox.jobs import Limits
from reward_workers.sandbox.judging.candidate import Candidate

log = logging.getLogger("reward_workers")

MAX_SETS = 4
"""Limits for which spares are kept at a time: those that were used last."""


class _Set:
    """Workers of the same limits: who is ready, who is on the way, who waits for one."""

    def __init__(self) -> None:
        self.ready: deque[Candidate] = deque()
        self.waiting: deque[asyncio.Future[Candidate]] = deque()
        self.num_spawning = 0

    def put(self, candidate: Candidate) -> None:
        """Gives a worker to whoever has waited longest, or keeps it."""
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done():
                waiter.set_result(candidate)
                return
        self.ready.append(candidate)

    def fail(self, fault: Exception) -> bool:
        """Tells the fault to whoever has waited longest; False where nobody waits."""
        while self.waiting:
            waiter = self.waiting.popleft()
            if not waiter.done():
                waiter.set_exception(fault)
                return True
        return False


class WarmSpares:
    """Makes workers ahead of time. Never hands one out twice.

    Args:
        backend: makes the workers.
        num_spares: to keep ready, over all limits in use.
        is_busy: whether jobs wait for a slot; then no spare is made, only what a job waits for.
    """

    def __init__(self, backend: Backend, num_spares: int, is_busy: Callable[[], bool]) -> None:
        self._backend = backend
        self._num_spares = num_spares
        self._is_busy = is_busy
        self._sets: OrderedDict[Limits, _Set] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._max_refilling = num_cores()
        self._closed = False
        self._last_fault: SandboxFault | None = None
        self.spawned = 0

    def num_ready(self) -> int:
        """Workers that wait for a job."""
        return sum(len(each.ready) for each in self._sets.values())

    async def fill(self, limits: Limits) -> None:
        """Makes all spares for these limits.

        Raises:
            SandboxFault: none became ready.
        """
        workers = self._set_for(limits)
        self.refill()
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._num_spares and not workers.ready:
            raise self._last_fault or SandboxFault("no spare worker could be made")

    async def take(self, limits: Limits) -> Candidate:
        """A worker for one job: a spare, or a new one.

        Raises:
            SandboxFault: it did not become ready.
        """
        workers = self._set_for(limits)
        self._last_fault = None
        while workers.ready:
            candidate = workers.ready.popleft()
            if not candidate.has_ended:
                self.refill()
                return candidate
        waiter: asyncio.Future[Candidate] = asyncio.get_running_loop().create_future()
        workers.waiting.append(waiter)
        if workers.num_spawning < len(workers.waiting):
            self._start_spawn(limits, workers)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                workers.put(waiter.result())
            raise

    def refill(self) -> None:
        """Starts to make spares, where some are missing and no job has to wait for it.

        After a fault, only when a job has asked for a worker again.
        """
        if self._closed or self._last_fault is not None or self._is_busy():
            return
        target = -(-self._num_spares // max(1, len(self._sets)))
        for limits, workers in reversed(self._sets.items()):
            missing = target - len(workers.ready) - workers.num_spawning
            for _ in range(min(missing, self._max_refilling - len(self._tasks))):
                self._start_spawn(limits, workers)

    async def close(self) -> None:
        """Ends all spares and makes no more."""
        self._closed = True
        while self._tasks:
            await asyncio.wait(self._tasks)
        for workers in self._sets.values():
            await _end_all(workers)
        self._sets.clear()

    def _set_for(self, limits: Limits) -> _Set:
        workers = self._sets.setdefault(limits, _Set())
        self._sets.move_to_end(limits)
        if len(self._sets) > MAX_SETS:
            _, oldest = self._sets.popitem(last=False)
            self._keep(asyncio.create_task(_end_all(oldest)))
        return workers

    def _start_spawn(self, limits: Limits, workers: _Set) -> None:
        workers.num_spawning += 1
        self._keep(asyncio.create_task(self._spawn(limits, workers)))

    def _keep(self, task: "asyncio.Task[None]") -> None:
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        self.refill()

    async def _spawn(self, limits: Limits, workers: _Set) -> None:
        """Makes one worker for whoever waits, or as a spare."""
        try:
            spawned = await self._backend.spawn(limits)
        except Exception as error:  # noqa: BLE001 - becomes data: a fault for whoever waits
            fault = error if isinstance(error, SandboxFault) else SandboxFault(repr(error))
            self._last_fault = fault
            workers.num_spawning -= 1
            if not workers.fail(fault):
                log.warning("a spare worker could not be made: %s", fault)
            return
        workers.num_spawning -= 1
        self.spawned += 1
        candidate = Candidate(spawned, limits, self._backend.read_usage)
        if self._closed or (limits not in self._sets and not workers.waiting):
            await candidate.close()
            return
        workers.put(candidate)


async def _end_all(workers: _Set) -> None:
    for candidate in workers.ready:
        candidate.kill()
    while workers.ready:
        await workers.ready.popleft().close()
