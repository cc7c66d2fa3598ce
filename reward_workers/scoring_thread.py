"""The thread of a reward worker in which its children and its sandbox live: one event loop."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType

from protocol.config import RunConfig
from protocol.messages import Score
from reward_workers.backlog import Backlog
from reward_workers.failures import Failures
from reward_workers.scoring import Scoring

log = logging.getLogger("reward_workers")

CLOSE_SECONDS = 5.0


class ScoringThread:
    """Runs one Scoring after another. Every method may be called by any thread.

    Args:
        backlog: where samples come from.
        keep: takes scores.
        failures: counts and logs what fails.
    """

    def __init__(
        self,
        backlog: Backlog,
        keep: Callable[[Score], None],
        failures: Failures,
    ) -> None:
        self._backlog = backlog
        self._keep = keep
        self._failures = failures
        self._scoring: Scoring | None = None
        self._ready = False
        self._broken: BaseException | None = None
        self._wanted: asyncio.Queue[tuple[RunConfig, int] | None] = asyncio.Queue()
        """Runs; None is the end."""
        self._loop = asyncio.new_event_loop()
        # Children die with the thread that started them (PR_SET_PDEATHSIG): it stays to the end.
        self._thread = threading.Thread(target=self._run, name="scoring", daemon=True)
        self._thread.start()

    def begin(self, config: RunConfig, run_epoch: int) -> None:
        """End what runs, then score for this run; does not wait until it is ready."""
        self._ready = False
        self._tell(lambda: self._wanted.put_nowait((config, run_epoch)))

    def wake(self) -> None:
        """There is new work in the backlog."""
        scoring = self._scoring
        if scoring is not None:
            self._tell(scoring.wake)

    def check(self) -> bool:
        """Whether the run's scoring is ready.

        Raises:
            ConfigError, SandboxUnavailable: the rewards cannot be used here.
            RewardError: a child was killed or crashed as it started.
        """
        if self._broken is not None:
            raise self._broken
        return self._ready

    def figures(self) -> Mapping[str, float]:
        """Of children and sandbox, at most half a second old."""
        return MappingProxyType({}) if self._scoring is None else self._scoring.figures

    def close(self) -> None:
        """End children and sandbox."""
        self._tell(lambda: self._wanted.put_nowait(None))
        self._thread.join(CLOSE_SECONDS)

    def _tell(self, call: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # its loop is closed
            self._loop.call_soon_threadsafe(call)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._follow())

    async def _follow(self) -> None:
        wanted = await self._wanted.get()
        while wanted is not None:
            running = asyncio.ensure_future(self._score(*wanted))
            wanted = await self._wanted.get()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _score(self, config: RunConfig, run_epoch: int) -> None:
        self._scoring = Scoring(config, self._backlog, self._keep, self._failures)
        try:
            await self._scoring.run(run_epoch, self._is_ready)
        except Exception as error:  # noqa: BLE001 - whatever it is, `check` raises it in the loop
            self._broken = error

    def _is_ready(self) -> None:
        self._ready = True
