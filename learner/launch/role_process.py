"""honcho's wrapper around one role: it and its role never outlive each other."""

import contextlib
import functools
import multiprocessing
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from honcho.process import Popen, Process

from protocol.process import die_with_parent

MAX_LINE_BYTES = 3000
"""Of a role's line that are shown; with honcho's facts it stays below PIPE_BUF (4096 on Linux)."""

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LAST_WORDS_SECONDS = 0.3


class RoleProcess(Process):
    """honcho's wrapper around one role: lives as long as its child, never longer than mlx-train."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as honcho's
        super().__init__(*args, **kwargs)
        # Only Linux can tie a child to its parent from outside; elsewhere roles do it themselves.
        tied = die_with_parent if sys.platform == "linux" else None
        self._child_ctor = functools.partial(_start_child, preexec_fn=tied)

    def run(self, events: Any = None, ignore_signals: bool = False) -> None:  # noqa: ANN401
        """Start the role and hand its lines and its end to `events`."""
        for number in _STOP_SIGNALS:
            # A handler, unlike SIG_IGN, is not passed on to the child.
            signal.signal(number, _leave_it_to_the_child)
        die_with_parent()
        launcher = multiprocessing.parent_process()
        if launcher is not None and launcher.pid != os.getppid():
            return  # mlx-train ended before this line
        super().run(events, ignore_signals)

    def _send_message(self, data: Any, type: str = "line") -> None:  # noqa: A002, ANN401 - honcho's
        """Cut long lines: a message that fits a pipe is written whole or not at all."""
        if isinstance(data, bytes) and len(data) > MAX_LINE_BYTES:
            data = data[:MAX_LINE_BYTES] + b" ...\n"
        super()._send_message(data, type)


def _start_child(*args: Any, **kwargs: Any) -> Popen:  # noqa: ANN401 - as honcho's
    """Start a role; when it has ended, so does whatever it left behind.

    honcho reads a role's output to its end before it looks at the role: a grandchild that holds the
    output would hide that the role is dead.
    """
    child = Popen(*args, **kwargs)

    def bury() -> None:
        child.wait()
        time.sleep(_LAST_WORDS_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)

    threading.Thread(target=bury, name="bury", daemon=True).start()
    return child


def _leave_it_to_the_child(_number: int, _frame: FrameType | None) -> None:
    """Honcho's wrapper ends when its child has ended."""
