"""What a reward worker holds: samples that wait, samples being scored, scores already given.

No score is given twice in a run epoch: a sample that comes again while it waits or is being scored
is ignored, and one that was scored is answered with the same score. A score that failed may be the
machine's fault: it is not remembered, and a sample that comes again is scored again. What belongs
to an earlier run epoch is dropped, finished or not. No socket; thread-safe.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from protocol.messages import Score, ScoreTask, ScoreWork
from reward_workers.busy import BusyTime
from reward_workers.combine import NO_REWARD_APPLIES
from reward_workers.registry import OK

MAX_BATCH = 16
"""Samples in one reward call."""
REMEMBERED_SCORES = 10_000
"""More than can be on their way to the learner."""
SETTLED = (OK, NO_REWARD_APPLIES)
"""Statuses that say the same each time; any other is worth another try."""

Key = tuple[int, int, int]
"""(group id, attempt, sample): what a score is acked by."""


def key_of(sample: ScoreTask | Score) -> Key:
    """Identity of a sample within a run epoch."""
    return sample.group_id, sample.attempt, sample.sample


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples that one lane scores together."""

    run_epoch: int
    tasks: tuple[ScoreTask, ...]
    started_at: float


class Backlog:
    """Shares the waiting samples out to a bounded number of lanes.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_running = 0
        self._lock = threading.Lock()
        self._busy = BusyTime(clock)
        self._run_epoch = -1
        self._waiting: deque[ScoreTask] = deque()
        self._alone: deque[ScoreTask] = deque()
        """Waiting, too: each in a batch of its own."""
        self._held: set[Key] = set()
        """Waiting or being scored."""
        self._running: set[Batch] = set()
        self._scores: OrderedDict[Key, Score] = OrderedDict()
        self._scored = 0

    def begin(self, run_epoch: int, max_running: int) -> None:
        """Drops everything of earlier run epochs.

        Args:
            run_epoch: whose work is taken from now on.
            max_running: batches that may be scored at a time.
        """
        with self._lock:
            self._run_epoch = run_epoch
            self._max_running = max_running
            for held in (self._waiting, self._alone, self._held, self._running, self._scores):
                held.clear()
            self._busy.set(busy=False)

    def add(self, work: ScoreWork) -> list[Score]:
        """Queues samples that are new; returns the scores of those that were scored before."""
        again: list[Score] = []
        with self._lock:
            if work.run_epoch != self._run_epoch:
                return []
            for task in work.tasks:
                key = key_of(task)
                if score := self._scores.get(key):
                    again.append(score)
                elif key not in self._held:
                    self._held.add(key)
                    self._waiting.append(task)
            self._busy.set(busy=bool(self._held))
        return again

    def take(self, now: float) -> Batch | None:
        """An even share of what waits, or None when nothing waits or no lane is free."""
        with self._lock:
            free = self._max_running - len(self._running)
            if not (self._alone or self._waiting) or free <= 0:
                return None
            tasks = (self._alone.popleft(),) if self._alone else self._next_share(free)
            batch = Batch(self._run_epoch, tasks, now)
            self._running.add(batch)
            return batch

    def _next_share(self, free: int) -> tuple[ScoreTask, ...]:
        """The longest-waiting samples, as far as the same rewards score them."""
        share = min(-(-len(self._waiting) // free), MAX_BATCH)
        suite = self._waiting[0].suite
        tasks: list[ScoreTask] = []
        while self._waiting and len(tasks) < share and self._waiting[0].suite == suite:
            tasks.append(self._waiting.popleft())
        return tuple(tasks)

    def split(self, batch: Batch) -> None:
        """Frees the batch's lane and queues each of its samples alone, before all others."""
        with self._lock:
            self._running.discard(batch)
            if batch.run_epoch == self._run_epoch:
                self._alone.extend(batch.tasks)

    def finish(self, batch: Batch, scores: Sequence[Score]) -> list[Score]:
        """Frees the batch's lane; returns the scores to hand over: none if they are outdated."""
        with self._lock:
            self._running.discard(batch)
            if batch.run_epoch != self._run_epoch:
                return []
            for score in scores:
                self._held.discard(key_of(score))
                if score.status in SETTLED:
                    self._scores[key_of(score)] = score
            self._busy.set(busy=bool(self._held))
            self._scored += len(scores)
            while len(self._scores) > REMEMBERED_SCORES:
                self._scores.popitem(last=False)
        return list(scores)

    def seconds(self) -> dict[str, float]:
        """`busy_seconds`, in which at least one sample was held, and `alive_seconds`."""
        with self._lock:
            return self._busy.figures()

    def scored(self) -> int:
        """Scores that were handed over, in all run epochs."""
        with self._lock:
            return self._scored

    def waiting(self) -> int:
        """Samples that no lane has taken yet."""
        with self._lock:
            return len(self._waiting) + len(self._alone)

    def running(self) -> tuple[Batch, ...]:
        """Batches that are being scored, the longest-running first."""
        with self._lock:
            return tuple(sorted(self._running, key=lambda batch: batch.started_at))
