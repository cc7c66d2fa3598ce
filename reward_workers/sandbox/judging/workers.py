"""Where a judge gets its workers: each is given to one job, and ended after it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from reward_workers.sandbox.jobs import Limits
from reward_workers.sandbox.judging.candidate import Candidate
from reward_workers.sandbox.warm import WarmSpares


class Workers:
    """Workers for one job.

    Args:
        spares: the pool's.
        limits: the job's.
    """

    def __init__(self, spares: WarmSpares, limits: Limits) -> None:
        self._spares = spares
        self._limits = limits

    @asynccontextmanager
    async def borrow(self) -> AsyncIterator[Candidate]:
        """A fresh worker, which has ended when this is left, in whatever way.

        Raises:
            SandboxFault: none could be made.
        """
        candidate = await self._spares.take(self._limits)
        try:
            yield candidate
        finally:
            await candidate.close()
