"""The reward worker's loop: scoring work in, scores out.

The loop's thread only takes messages; what scores them (scoring.py) lives in a thread of its own
and hands the scores to the link itself. Knows no socket, signal, file or process.
"""

import logging
from collections.abc import Callable, Hashable, Mapping
from typing import Protocol

from pydantic import ValidationError

from protocol.config import RunConfig
from protocol.errors import ConfigError
from protocol.messages import Message, ScoreWork, Welcome
from protocol.peer import Ended, PeerStatus
from protocol.wire import Received
from reward_workers.backlog import Backlog, key_of

log = logging.getLogger("reward_workers")

POLL_SECONDS = 0.2
"""Longest time that the loop takes to notice that the link has ended."""
START_POLL_SECONDS = 0.02
"""The same for the scorer's being ready."""


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


class Scorer(Protocol):
    """What the worker needs of what scores; see scoring_thread.py."""

    def begin(self, config: RunConfig, run_epoch: int) -> None:
        """Score for this run from now on, and for no other; does not wait until it is ready."""
        ...

    def wake(self) -> None:
        """There is new work in the backlog."""
        ...

    def check(self) -> bool:
        """Whether it is ready.

        Raises:
            TrainerError: it cannot score here, or not any more.
        """
        ...

    def figures(self) -> Mapping[str, float]:
        """For heartbeats."""
        ...


class Worker:
    """Scores what the learner sends until the run ends.

    Args:
        link: the link to the learner.
        slots: samples to hold at once: the credit that the learner is told.
        backlog: what the scorer takes samples from.
        scorer: scores.
        joined: called with each Welcome that begins a run epoch.
    """

    def __init__(
        self,
        link: Link,
        slots: int,
        backlog: Backlog,
        scorer: Scorer,
        joined: Callable[[Welcome], None] = lambda _: None,
    ) -> None:
        self._link = link
        self._slots = slots
        self._joined = joined
        self._backlog = backlog
        self._scorer = scorer
        self._run_epoch = -1
        self._ready = False

    def run(self) -> Ended:
        """Scores until the link has ended; returns how it did.

        Raises:
            ConfigError, SandboxUnavailable: the run's rewards cannot be used here.
        """
        while self._link.ended is None:
            received = self._link.receive(POLL_SECONDS if self._ready else START_POLL_SECONDS)
            if received is not None:
                self._take(received.message)
            became_ready, self._ready = not self._ready, self._scorer.check()
            if self._ready:
                self._report(now=became_ready)
        return self._link.ended

    def _take(self, message: Message) -> None:
        match message:
            case Welcome():
                if message.run_epoch != self._run_epoch:
                    self._run_epoch = message.run_epoch
                    self._joined(message)
                    self._scorer.begin(_read_config(message), message.run_epoch)
                self._ready = False  # tell the learner at once when it is, or that it still is
            case ScoreWork():
                for score in self._backlog.add(message):
                    self._link.keep(key_of(score), score)
                self._scorer.wake()
            case _:
                log.debug("ignored a %s", type(message).__name__)

    def _report(self, *, now: bool = False) -> None:
        running, waiting = len(self._backlog.running()), self._backlog.waiting()
        metrics = {
            "scores_total": float(self._backlog.scored()),
            "batches_running": float(running),
            "samples_waiting": float(waiting),
            **self._backlog.seconds(),
            **self._scorer.figures(),
        }
        state = "scoring" if running else "idle"
        status = PeerStatus(state, -1, self._slots, metrics=metrics, run_epoch=self._run_epoch)
        self._link.report(status, now=now)


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
