"""Batches -> outcomes: who is asked, and what becomes of samples whose reward does not come back.

A lane works on one batch at a time, with a child for rewards that need the network and one for
those that must not have it, as far as the config has such rewards.
"""

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from protocol.errors import ConfigError, RewardError
from protocol.messages import ScoreTask
from reward_workers.calling import Outcome
from reward_workers.children.child import Child, ChildLost, ChildSettings, Traits
from reward_workers.sandbox.jobs import Sandbox

log = logging.getLogger("reward_workers")

MAX_RESTARTS_IN_ROW = 3
RESTART_SECONDS = 0.5
"""Wait before the second attempt; each further one waits twice as long."""


class Suspects(Exception):  # noqa: N818 - a state, for the worker to handle
    """One of several samples ended the child: each must be tried alone."""


class AnyChild(Protocol):
    """What a lane needs of a child; see children.Child."""

    network: bool
    traits: tuple[Traits, ...]
    sandbox: Sandbox | None

    async def start(self) -> None:
        """Start it."""
        ...

    async def call(
        self, reward: int, batch: int, tasks: Sequence[ScoreTask], timeout_seconds: float
    ) -> list[Outcome]:
        """Ask it."""
        ...

    async def close(self) -> None:
        """End it."""
        ...


class Lane:
    """Scores batches one after another.

    Args:
        settings: of the run's children.
        counts: `restarts`, and lost calls by status; shared by all lanes.
    """

    _batches = itertools.count()

    def __init__(self, settings: ChildSettings, counts: Counter[str]) -> None:
        self._settings = settings
        self._counts = counts
        self._children: dict[bool, AnyChild] = {}
        self._traits: tuple[Traits, ...] = ()
        self._sandbox: Sandbox | None = None

    async def start(self) -> tuple[Traits, ...]:
        """Start the child without network; returns what each reward asks for.

        Raises:
            ConfigError, SandboxUnavailable: the rewards cannot be used here.
            RewardError: the child was killed or crashed.
        """
        child = self._children[False] = self._new_child(network=False)
        await child.start()
        self._traits = child.traits
        return self._traits

    async def prepare(self, sandbox: Sandbox | None) -> None:
        """Have the children that the rewards ask for, and no other."""
        self._sandbox = self._children[False].sandbox = sandbox
        if any(traits.needs_network for traits in self._traits):
            child = self._children[True] = self._new_child(network=True)
            child.sandbox = sandbox
            await child.start()
        if all(traits.needs_network for traits in self._traits):
            await self._children.pop(False).close()

    async def score(
        self, tasks: Sequence[ScoreTask], rewards: Sequence[int] | None = None
    ) -> list[tuple[Outcome, ...]]:
        """[task][reward]: what every reward said of every task.

        Args:
            tasks: a batch.
            rewards: which of the settings' rewards to ask; None: all.

        Raises:
            Suspects: a child was lost in a call for several samples.
            ConfigError, RewardError: lost children cannot be started again.
        """
        batch = next(self._batches)
        by_reward: list[list[Outcome]] = []
        for reward in range(len(self._traits)) if rewards is None else rewards:
            config = self._settings.rewards[reward]
            child = self._children[self._traits[reward].needs_network]
            try:
                outcomes = await child.call(reward, batch, tasks, config.timeout_seconds)
            except ChildLost as lost:
                self._counts[lost.status] += 1
                await self._replace(child)
                if len(tasks) > 1:
                    log.debug("a child was lost (%s): each of %d alone", lost, len(tasks))
                    raise Suspects from None
                outcomes = [Outcome(None, 0.0, lost.status, lost.detail)]
            by_reward.append(outcomes)
        return list(zip(*by_reward, strict=True))

    async def close(self) -> None:
        """End its children."""
        await asyncio.gather(*(child.close() for child in self._children.values()))

    def alive(self) -> int:
        """Its children."""
        return len(self._children)

    def _new_child(self, *, network: bool) -> AnyChild:
        return Child(self._settings, network=network)

    async def _replace(self, lost: AnyChild) -> None:
        """A new child in the place of one that is gone; it started once, so it may again."""
        await lost.close()
        for attempt in range(MAX_RESTARTS_IN_ROW):
            child = self._children[lost.network] = self._new_child(network=lost.network)
            child.sandbox = self._sandbox
            self._counts["restarts"] += 1
            try:
                await child.start()
            except (ConfigError, RewardError) as error:
                if attempt == MAX_RESTARTS_IN_ROW - 1:
                    raise
                log.warning("a reward's process does not start again: %s", error)
                await asyncio.sleep(RESTART_SECONDS * 2**attempt)
            else:
                return
