"""The reward worker's loop: scoring work in, scores out.

The loop's thread only takes messages; reward functions run in threads of their own, a bounded
number at a time, and hand their scores to the link themselves. Knows no socket, signal or file.
"""

import logging
import threading
import time
from collections.abc import Callable, Hashable
from typing import Protocol

from pydantic import ValidationError

from protocol.config import RunConfig
from protocol.errors import ConfigError, RewardError
from protocol.messages import Message, Score, ScoreWork, Welcome
from protocol.peer import Ended, PeerStatus
from protocol.wire import Received
from reward_workers.backlog import Backlog, Batch, key_of
from reward_workers.binding import bind_rewards
from reward_workers.combine import Scorer
from reward_workers.failures import Failures

log = logging.getLogger("reward_workers")

POLL_SECONDS = 0.2
"""Longest time that the loop takes to notice that the link has ended."""


class Link(Protocol):
    """What the worker needs of its link to the learner."""

    ended: Ended | None

    def receive(self, timeout_seconds: float) -> Received | None:
        """Next message, or None when none came in time."""
        ...

    def report(self, status: PeerStatus, *, now: bool = False) -> None:
        """Replace what heartbeats say."""
        ...

    def keep(self, key: Hashable, message: Message) -> None:
        """Send until acked; any thread may call it."""
        ...


def start_thread(run: Callable[[], None]) -> None:
    """Runs a call in a thread of its own that does not hold up the process's end."""
    threading.Thread(target=run, name="reward", daemon=True).start()


class Worker:
    """Scores what the learner sends until the run ends.

    Args:
        link: the link to the learner.
        slots: samples to hold at once: the credit that the learner is told.
        max_threads: reward calls at a time.
        joined: called with each Welcome that begins a run epoch.
        start: runs a call beside the loop.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        link: Link,
        slots: int,
        max_threads: int,
        joined: Callable[[Welcome], None] = lambda _: None,
        start: Callable[[Callable[[], None]], None] = start_thread,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link = link
        self._slots = slots
        self._max_threads = min(max_threads, slots)
        self._joined = joined
        self._start = start
        self._clock = clock
        self._backlog = Backlog(self._max_threads)
        self._failures = Failures(clock)
        self._scorer = Scorer((), self._failures, clock)
        self._run_epoch = -1
        self._hang_seconds = 0.0
        self._broken: BaseException | None = None

    def run(self) -> Ended:
        """Scores until the link has ended; returns how it did.

        Raises:
            ConfigError, UnknownPluginError: the run's rewards cannot be used here.
            RewardError: every thread hangs in a reward call.
        """
        while self._link.ended is None:
            received = self._link.receive(POLL_SECONDS)
            if received is not None:
                self._take(received.message)
            self._check_threads()
            self._report()
        return self._link.ended

    def _take(self, message: Message) -> None:
        match message:
            case Welcome():
                if message.run_epoch != self._run_epoch:
                    self._begin(message)
                self._report(now=True)
            case ScoreWork():
                for score in self._backlog.add(message):
                    self._link.keep(key_of(score), score)
                self._score_waiting()
            case _:
                log.debug("ignored a %s", type(message).__name__)

    def _begin(self, welcome: Welcome) -> None:
        self._joined(welcome)
        config = _read_config(welcome)
        rewards = bind_rewards(config.rewards)
        log.info("rewards: %s", ", ".join(reward.name for reward in rewards))
        self._scorer = Scorer(rewards, self._failures, self._clock)
        self._hang_seconds = config.learner.score_seconds
        self._run_epoch = welcome.run_epoch
        self._backlog.begin(welcome.run_epoch)

    def _score_waiting(self) -> None:
        while batch := self._backlog.take(self._clock()):
            self._start(lambda scorer=self._scorer, batch=batch: self._score(scorer, batch))

    def _score(self, scorer: Scorer, batch: Batch) -> None:
        """Scores one batch, then makes way for the next; runs beside the loop."""
        try:
            scores: list[Score] = scorer.score(batch.run_epoch, batch.tasks)
        except BaseException as error:  # noqa: BLE001 - our bug: the loop must hear of it
            self._broken = error
            return
        for score in self._backlog.finish(batch, scores):
            self._link.keep(key_of(score), score)
        self._score_waiting()

    def _check_threads(self) -> None:
        if self._broken is not None:
            raise self._broken
        running, now = self._backlog.running(), self._clock()
        hanging = [b for b in running if now - b.started_at > self._hang_seconds * len(b.tasks)]
        if len(hanging) == self._max_threads:
            seconds = now - hanging[0].started_at
            raise RewardError(
                f"all {len(hanging)} threads hang in reward calls, the first for {seconds:.0f} s: "
                "give the reward function a time limit of its own"
            )

    def _report(self, *, now: bool = False) -> None:
        if self._run_epoch < 0:
            return
        running, waiting = len(self._backlog.running()), self._backlog.waiting()
        metrics = {
            "scores_total": float(self._backlog.scored()),
            "reward_errors_total": float(self._failures.total()),
            "batches_running": float(running),
            "samples_waiting": float(waiting),
        }
        state = "scoring" if running else "idle"
        self._link.report(PeerStatus(state, -1, self._slots, metrics=metrics), now=now)


def _read_config(welcome: Welcome) -> RunConfig:
    try:
        return RunConfig.model_validate_json(welcome.config)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"cannot read the run's config ({where}: {first['msg']}): run the same checkout here "
            "as on the learner's machine"
        ) from None
