"""What children print: into the log, line by line, a bounded number of them."""

import asyncio
import logging
import os
import time
from collections.abc import Callable

log = logging.getLogger("reward_workers.children.inside")

MAX_LINE_CHARACTERS = 300
MAX_LINES = 20
WINDOW_SECONDS = 10.0
"""At most MAX_LINES are logged in each."""
READ_BYTES = 64 << 10


class OutputLog:
    """Logs what arrives on a pipe, and goes on reading where there is too much to log.

    Args:
        pipe: read end, not blocking; is closed by `close`.
        name: of the child.
        clock: monotonic seconds.
    """

    def __init__(self, pipe: int, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._pipe = pipe
        self._name = name
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._open = True
        self._partial = b""
        self._window_began = clock()
        self._logged = 0
        self._left_out = 0
        self.last_line = ""
        """For the reason why a child did not start."""
        self._loop.add_reader(pipe, self.read)

    def read(self) -> bool:
        """Take what has come; returns whether there may be more."""
        if not self._open:
            return False
        try:
            part = os.read(self._pipe, READ_BYTES)
        except BlockingIOError:
            return False
        if not part:
            self._loop.remove_reader(self._pipe)
            return False
        *lines, rest = (self._partial + part).split(b"\n")
        self._partial = rest[-MAX_LINE_CHARACTERS:]
        for line in lines:
            self._take(line)
        return True

    def close(self) -> None:
        """Log what is left, and close the pipe."""
        if not self._open:
            return
        for _ in range(16):  # what a pipe can hold
            if not self.read():
                break
        self._open = False
        self._loop.remove_reader(self._pipe)
        os.close(self._pipe)
        if self._partial:
            self._take(self._partial)
        self._tell_what_was_left_out()

    def _take(self, line: bytes) -> None:
        now = self._clock()
        if now - self._window_began >= WINDOW_SECONDS:
            self._tell_what_was_left_out()
            self._window_began, self._logged = now, 0
        if self._logged >= MAX_LINES:
            self._left_out += 1
            return
        text = printable(line[:MAX_LINE_CHARACTERS])
        if text:
            self._logged += 1
            self.last_line = text
            log.info("%s: %s", self._name, text)

    def _tell_what_was_left_out(self) -> None:
        if self._left_out:
            log.info("%s: %d more lines", self._name, self._left_out)
            self._left_out = 0


def printable(line: bytes) -> str:
    """Text of a line, without what a terminal would obey."""
    text = line.decode("utf-8", "replace").rstrip()
    return "".join(c if c.isprintable() else "?" for c in text.replace("\t", " "))
