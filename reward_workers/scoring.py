"""One run's scoring: children, the sandbox if a reward asks for it, and lanes that share the work.

Lives in one event loop. The backlog is the only thing that it shares with another thread.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from protocol.config import RunConfig
from protocol.config_evaluation import reward_sets
from protocol.config_section import labels_of
from protocol.messages import Score
from protocol.process import num_cores
from reward_workers.backlog import Backlog, Batch
from reward_workers.calling import Outcome
from reward_workers.children.child import CRASHED, MEMORY, TIMEOUT, ChildSettings
from reward_workers.children.lanes import Lane, Suspects
from reward_workers.children.network import LAYER as NETWORK
from reward_workers.combine import Weighted, combine
from reward_workers.failures import Failures
from reward_workers.registry import OK
from reward_workers.sandbox.pool import SandboxPool
from reward_workers.thinking import thinking_of

log = logging.getLogger("reward_workers")

T = TypeVar("T")

NUM_PROCESSES = 2
STATISTICS_SECONDS = 0.5
MAX_SHOWN_REWARDS = 40


class RewardSet(NamedTuple):
    """Rewards that score a task together."""

    weighted: tuple[Weighted, ...]
    indices: Sequence[int]
    """Where they stand among all rewards of the children."""


class Scoring:
    """Children and sandbox of one run.

    Args:
        config: the run's.
        backlog: where samples come from.
        keep: takes scores; any thread may call it.
        failures: counts and logs what fails.
    """

    def __init__(
        self,
        config: RunConfig,
        backlog: Backlog,
        keep: Callable[[Score], None],
        failures: Failures,
    ) -> None:
        self._config = config
        self._backlog = backlog
        self._keep = keep
        self._failures = failures
        self._counts: Counter[str] = Counter()
        self._given: Counter[str] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._sets = sets_of(config)
        number = config.reward_worker.processes or min(NUM_PROCESSES, num_cores())
        self._lanes = [Lane(settings_of(config), self._counts) for _ in range(number)]
        self._pool: SandboxPool | None = None
        self._new_work = asyncio.Event()
        self.figures: dict[str, float] = {}
        """For heartbeats; replaced now and then, never changed."""

    @contextlib.asynccontextmanager
    async def started(self) -> AsyncGenerator[None]:
        """Children and sandbox, ready inside and gone afterwards.

        Raises:
            ConfigError: the rewards cannot be used.
            RewardError: a child was killed or crashed.
            SandboxUnavailable: a layer of confinement is missing.
        """
        async with contextlib.AsyncExitStack() as stack:
            for lane in self._lanes:
                stack.push_async_callback(lane.close)
            traits, *_ = await _all(lane.start() for lane in self._lanes)
            if any(asked.uses_sandbox for asked in traits):
                self._pool = await stack.enter_async_context(make_pool(self._config))
            await _all(lane.prepare(self._pool) for lane in self._lanes)
            self.refresh()
            log.info("rewards: %s", ", ".join(self._names()))
            yield

    async def run(self, run_epoch: int, ready: Callable[[], None]) -> None:
        """Score until cancelled; raises what `started` does, or our own bug."""
        async with self.started():
            self._backlog.begin(run_epoch, len(self._lanes))
            ready()
            await _all([self._refresh_always(), *(self._work(lane) for lane in self._lanes)])

    def wake(self) -> None:
        """Look at the backlog again."""
        self._new_work.set()

    async def _work(self, lane: Lane) -> None:
        while True:
            batch = self._backlog.take(time.monotonic())
            if batch is None:
                self._new_work.clear()
                batch = self._backlog.take(time.monotonic())  # it may have come meanwhile
            if batch is None:
                await self._new_work.wait()
                continue
            try:
                rewards = self._sets[batch.tasks[0].suite]  # of a batch, all are the same
                outcomes = await lane.score(batch.tasks, rewards.indices)
            except Suspects:
                self._backlog.split(batch)
            else:
                self._hand_over(batch, rewards.weighted, outcomes)
            self._new_work.set()

    def _hand_over(
        self, batch: Batch, rewards: Sequence[Weighted], outcomes: Sequence[Sequence[Outcome]]
    ) -> None:
        scores: list[Score] = []
        for task, of_sample in zip(batch.tasks, outcomes, strict=True):
            for weighted, outcome in zip(rewards, of_sample, strict=True):
                self._given[weighted.name] += 1
                self._seconds[weighted.name] += outcome.seconds
                if outcome.status != OK:
                    self._failures.record(weighted.name, outcome.failure)
            scores.append(combine(batch.run_epoch, task, rewards, of_sample))
        for score in self._backlog.finish(batch, scores):
            self._keep(score)

    async def _refresh_always(self) -> None:
        while True:
            await asyncio.sleep(STATISTICS_SECONDS)
            self.refresh()

    def refresh(self) -> None:
        """Make `figures` anew."""
        statistics = self._pool.statistics() if self._pool is not None else {}
        self.figures = {
            "children": float(sum(lane.alive() for lane in self._lanes)),
            "child_restarts_total": float(self._counts["restarts"]),
            "reward_timeouts_total": float(self._counts[TIMEOUT]),
            "reward_crashes_total": float(self._counts[CRASHED]),
            "reward_memory_total": float(self._counts[MEMORY]),
            **{f"sandbox_{name}": float(value) for name, value in statistics.items()},
            **self._figures_of_rewards(),
        }

    def _names(self) -> list[str]:
        """Of all rewards; one that several suites have is counted once."""
        named = (weighted.name for found in self._sets.values() for weighted in found.weighted)
        return list(dict.fromkeys(named))

    def _figures_of_rewards(self) -> dict[str, float]:
        """By name, of as many rewards as a heartbeat has room for."""
        failures = self._failures.by_reward()
        figures: dict[str, float] = {}
        for name in self._names()[:MAX_SHOWN_REWARDS]:
            figures[f"reward_samples/{name}"] = float(self._given[name])
            figures[f"reward_seconds/{name}"] = self._seconds[name]
            figures[f"reward_failures/{name}"] = float(failures.get(name, 0))
        return figures


async def check_rewards(config: RunConfig) -> list[str]:
    """Start one child, and the sandbox if this machine is to have workers that need it; end them.

    Returns:
        The rewards' names.

    Raises:
        ConfigError, RewardError, SandboxUnavailable: as Scoring.started.
    """
    async with contextlib.AsyncExitStack() as stack:
        lane = Lane(settings_of(config), Counter())
        stack.push_async_callback(lane.close)
        traits = await lane.start()
        if config.roles.reward_worker and any(asked.uses_sandbox for asked in traits):
            await stack.enter_async_context(make_pool(config))
    sets = sets_of(config).values()
    return list(dict.fromkeys(weighted.name for found in sets for weighted in found.weighted))


def sets_of(config: RunConfig) -> dict[str, RewardSet]:
    """The rewards of the run and of its evaluators, by the name that a task has for them."""
    sets: dict[str, RewardSet] = {}
    first = 0
    for name, rewards in reward_sets(config.rewards, config.evaluation).items():
        pairs = zip(labels_of(rewards), rewards, strict=True)
        weighted = tuple(Weighted(label, reward.weight) for label, reward in pairs)
        sets[name] = RewardSet(weighted, range(first, first + len(rewards)))
        first += len(rewards)
    return sets


def settings_of(config: RunConfig) -> ChildSettings:
    """What the config says of children."""
    sets = reward_sets(config.rewards, config.evaluation)
    return ChildSettings(
        tuple(reward for rewards in sets.values() for reward in rewards),
        config.reward_worker.memory_bytes,
        network_anyway=NETWORK in config.sandbox.allow_degraded,
        thinking=thinking_of(config.model),
    )


def make_pool(config: RunConfig) -> SandboxPool:
    """The sandbox as the config wants it, not started."""
    sandbox = config.sandbox
    return SandboxPool(
        sandbox.slots,
        sandbox.warm,
        start=sandbox.start,
        allow_degraded=[layer for layer in sandbox.allow_degraded if layer != NETWORK],
        packages=Path(sandbox.packages) if sandbox.packages else None,
        cache_size=sandbox.cache_size,
    )


async def _all(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Results of all; the first failure cancels the others and is raised as it is."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
