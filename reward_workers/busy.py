"""How long a process had work in hand, for its heartbeats. Not thread-safe."""

import time
from collections.abc import Callable


class BusyTime:
    """Wall seconds since the start, and how many of them there was work.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = clock()
        self._ended = 0.0
        """Seconds of work that are over."""
        self._since: float | None = None
        """When the work began that is in hand; None where there is none."""

    def set(self, *, busy: bool) -> None:
        """Say whether there is work in hand from now on; saying it again changes nothing."""
        if busy == (self._since is not None):
            return
        now = self._clock()
        if self._since is None:
            self._since = now
        else:
            self._ended, self._since = self._ended + now - self._since, None

    def figures(self) -> dict[str, float]:
        """`busy_seconds` and `alive_seconds`, both up to the same moment."""
        now = self._clock()
        running = 0.0 if self._since is None else now - self._since
        return {"busy_seconds": self._ended + running, "alive_seconds": now - self._started}
