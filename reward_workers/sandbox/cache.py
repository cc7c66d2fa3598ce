"""Verdicts that are known already: of the same code, under the same tests and limits."""

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace

from reward_workers.sandbox.jobs import Result, Verdict

LASTING = frozenset(
    {Verdict.PASSED, Verdict.FAILED, Verdict.OOM, Verdict.CRASHED, Verdict.OUTPUT_LIMIT}
)
"""A timeout may not repeat itself on a quieter machine, and a sandbox error should not."""


def key_of(*parts: object) -> bytes:
    """A digest of what decides a verdict.

    Args:
        parts: plain JSON, and tuples of it.
    """
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).digest()


class _Run:
    """A run that is under way, and how many wait for it."""

    def __init__(self) -> None:
        self.task: asyncio.Task[Result] | None = None
        self.num_waiting = 0


class VerdictCache:
    """Remembers verdicts, and lets equal jobs that are under way share one run.

    A run belongs to nobody: it goes on while anybody waits for it, and ends with the last.

    Args:
        max_results: to remember; the least recently used goes first. 0 remembers none.
    """

    def __init__(self, max_results: int) -> None:
        self._max_results = max_results
        self._results: OrderedDict[bytes, Result] = OrderedDict()
        self._runs: dict[bytes, _Run] = {}
        self._tasks: set[asyncio.Task[Result]] = set()
        self._closed = False
        self.hits = 0

    async def get(self, key: bytes, run: Callable[[], Awaitable[Result]]) -> Result:
        """The verdict on a job, by running it where it is not known.

        A sandbox error that another caller's run met is not taken for an answer: the job is run
        once more, by all who waited for it together.
        """
        if key in self._results:
            self._results.move_to_end(key)
            self.hits += 1
            return replace(self._results[key], cached=True)
        shared = key in self._runs
        result = await self._join(key, run)
        if not shared:
            return result
        if result.verdict is Verdict.SANDBOX_ERROR:
            return await self._join(key, run)
        self.hits += 1
        return replace(result, cached=True)

    async def close(self) -> None:
        """Ends all runs, and returns when they have ended."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _join(self, key: bytes, run: Callable[[], Awaitable[Result]]) -> Result:
        joined = self._runs.get(key)
        if joined is None:
            joined = self._runs[key] = _Run()
            joined.task = asyncio.create_task(self._finish(key, joined, run))
            self._tasks.add(joined.task)
            joined.task.add_done_callback(self._tasks.discard)
        assert joined.task is not None
        joined.num_waiting += 1
        try:
            return await asyncio.shield(joined.task)
        except asyncio.CancelledError:
            if self._closed and joined.task.done():
                raise RuntimeError("the sandbox pool was closed before the job was done") from None
            raise
        finally:
            joined.num_waiting -= 1
            if joined.num_waiting == 0 and not joined.task.done():
                self._forget(key, joined)
                joined.task.cancel()

    async def _finish(self, key: bytes, me: _Run, run: Callable[[], Awaitable[Result]]) -> Result:
        try:
            result = await run()
        finally:
            self._forget(key, me)
        if result.verdict in LASTING and self._max_results > 0:
            self._results[key] = result
            if len(self._results) > self._max_results:
                self._results.popitem(last=False)
        return result

    def _forget(self, key: bytes, run: _Run) -> None:
        if self._runs.get(key) is run:
            del self._runs[key]
