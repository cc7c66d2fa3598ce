"""What a worker prints: two pipes, read as it comes, up to a limit each."""

import asyncio
import os
from collections.abc import Callable

from reward_workers.sandbox.jobs import Verdict
from reward_workers.sandbox.judging.verdicts import Stopped

READ_BYTES = 64 << 10


class Outputs:
    """Reads stdout and stderr of one worker.

    Args:
        stdout: read end of a pipe, not blocking; closed by `close`.
        stderr: likewise.
        max_bytes: of each.
        stop: called when there is more.
    """

    def __init__(
        self, stdout: int, stderr: int, max_bytes: int, stop: Callable[[Stopped], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._max_bytes = max_bytes
        self._stop = stop
        self._names = {stdout: "stdout", stderr: "stderr"}
        self._open = dict.fromkeys(self._names, False)
        self.stdout = bytearray()
        self.stderr = bytearray()

    def open(self) -> None:
        """Reads from now on."""
        for fd in self._open:
            self._loop.add_reader(fd, self._read, fd)
            self._open[fd] = True

    def read(self) -> None:
        """Takes what was printed so far; never waits."""
        for fd in self._names:
            self._read(fd)

    def close(self) -> None:
        """Reads what is left, and closes the pipes."""
        self.read()
        for fd in self._names:
            self._deafen(fd)
            os.close(fd)
        self._names.clear()

    def _read(self, fd: int) -> None:
        name = self._names[fd]
        text = self.stdout if name == "stdout" else self.stderr
        while True:
            try:
                part = os.read(fd, READ_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            if not part:
                self._deafen(fd)
                return
            text += part
            if len(text) > self._max_bytes:
                self._deafen(fd)
                self._stop(
                    Stopped(Verdict.OUTPUT_LIMIT, f"more than {self._max_bytes} bytes on {name}")
                )
                return

    def _deafen(self, fd: int) -> None:
        if self._open[fd]:
            self._open[fd] = False
            self._loop.remove_reader(fd)
