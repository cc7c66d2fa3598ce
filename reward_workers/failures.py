"""Failed reward calls: every one is counted, few are logged."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable

log = logging.getLogger("reward_workers")

LOG_SECONDS = 10.0
"""Least time between two log lines about the same reward."""


class Failures:
    """Counts failures by reward; logs the first at once, later ones summed up. Thread-safe.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._unlogged: Counter[str] = Counter()
        self._logged_at: dict[str, float] = {}

    def record(self, reward: str, failure: str) -> None:
        """Counts one failed sample of a reward, and logs it if it is time."""
        with self._lock:
            self._counts[reward] += 1
            self._unlogged[reward] += 1
            now, logged_at = self._clock(), self._logged_at.get(reward)
            if logged_at is not None and now - logged_at < LOG_SECONDS:
                return
            self._logged_at[reward] = now
            unlogged = self._unlogged.pop(reward)
        log.warning("reward %s failed on %d samples, the last: %s", reward, unlogged, failure)

    def by_reward(self) -> dict[str, int]:
        """Samples on which each reward failed."""
        with self._lock:
            return dict(self._counts)
