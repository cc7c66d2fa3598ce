"""A limit on the time of trusted code that works on untrusted text, within one process."""

import gc
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from protocol.errors import RewardError

REPEAT_SECONDS = 0.2
"""Between alarms, for code that swallows the first in a bare `except`."""


class OutOfTime(BaseException):
    """Raised inside the limited code; no `except Exception` takes it for an error of its own."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises OutOfTime in the block after some seconds of wall time, by SIGALRM.

    Raises:
        RewardError: not in the main thread, where alone signals are handled.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RewardError("a time limit works in a main thread only: it is SIGALRM's")

    def ring(_signal: int, frame: FrameType | None) -> None:
        if not _is_lost_in(frame):
            raise OutOfTime

    with _quiet_where_it_is_lost():
        before = signal.signal(signal.SIGALRM, ring)
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds, REPEAT_SECONDS)
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


@contextmanager
def _quiet_where_it_is_lost() -> Iterator[None]:
    """An alarm that a weak reference's callback loses is no fault to be told of: another rings."""
    before = sys.unraisablehook

    def tell(unraisable: "sys.UnraisableHookArgs") -> None:
        if not issubclass(unraisable.exc_type, OutOfTime):
            before(unraisable)

    sys.unraisablehook = tell
    try:
        yield
    finally:
        sys.unraisablehook = before


def _is_lost_in(frame: FrameType | None) -> bool:
    """What is raised in a `__del__`, or in a callback of the collector, is lost.

    An alarm that came in a collection rings there. It is lost in a weak reference's callback too,
    which nothing tells from any other function: that one is cut short.
    """
    of_collector = {getattr(callback, "__code__", None) for callback in gc.callbacks}
    while frame is not None:
        if frame.f_code.co_name == "__del__" or frame.f_code in of_collector:
            return True
        frame = frame.f_back
    return False
