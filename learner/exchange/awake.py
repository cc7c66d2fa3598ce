"""A clock that stands still while this process did: after a sleep nobody is late for it."""

import logging
import time
from collections.abc import Callable

log = logging.getLogger("learner.awake")

LONGEST_TURN_SECONDS = 5.0
"""A longer gap between two looks is no work of ours: the process was stopped."""
GRACE_SECONDS = 5.0
"""After a gap, for peers whose connections have ended meanwhile to dial again."""


class AwakeClock:
    """Seconds that the exchange was awake; they change only when it looks.

    So all that happens between two looks happens at one time, and a stop in the middle of it is
    noticed before anybody is blamed for it. A Mac's own sleep does not even show in
    `time.monotonic`; SIGSTOP, a debugger and a machine that swaps do.

    Args:
        clock: seconds that do not go back.
        work: CPU seconds of the thread that looks; a gap that was spent at work is none.
    """

    def __init__(
        self, clock: Callable[[], float], work: Callable[[], float] = time.thread_time
    ) -> None:
        self._clock = clock
        self._work = work
        self._looked_at = clock()
        self._worked: float | None = None  # of the thread that looks, which may be another
        self._left_out = 0.0
        self._woke_at = -GRACE_SECONDS
        self._now = self._looked_at

    def __call__(self) -> float:
        """The time at the last look."""
        return self._now

    def look(self) -> float:
        """Go on, unless the last look is too long ago; returns the time."""
        now = self._clock()
        worked = self._work()
        gap, self._looked_at = now - self._looked_at, now
        idle = gap - (worked - (worked if self._worked is None else self._worked))
        self._worked = worked
        if idle > LONGEST_TURN_SECONDS:
            self._left_out += gap
            log.warning("this process stood still for %.0f s, which counts for nobody", gap)
            self._woke_at = now - self._left_out
        self._now = now - self._left_out
        return self._now

    @property
    def has_just_woken(self) -> bool:
        """True while peers may still be on their way back after a gap."""
        return self._now - self._woke_at < GRACE_SECONDS
