"""The supervisor's end of a worker's channel: frames by turns, on a socket that never blocks."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from reward_workers.sandbox.harness import frames
from reward_workers.sandbox.jobs import Verdict
from reward_workers.sandbox.judging.verdicts import Stopped

READ_BYTES = 256 << 10
MAX_HEARD_BYTES = 16 << 20
"""Of all a worker's answers: reading them costs this process up to half a second a MiB."""


class Channel:
    """Says one thing, then hears one thing. A worker that speaks out of turn has crashed.

    Args:
        channel: a stream socket, not blocking; stays the caller's to close.
        stop: called, once or more, with what the worker did wrong.
        changed: called when a frame has come or the worker has hung up.
    """

    def __init__(
        self, channel: socket.socket, stop: Callable[[Stopped], None], changed: Callable[[], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = channel
        self._stop = stop
        self._changed = changed
        self._inbox = bytearray()
        self._outbox = memoryview(b"")
        self._listening = False
        self._writing = False
        self._expects = False
        self._heard_bytes = 0
        self._noted_bytes = 0
        self.hung_up = False

    def open(self) -> None:
        """Listens from now on."""
        self._loop.add_reader(self._socket, self.read)
        self._listening = True

    def close(self) -> None:
        """Neither listens nor speaks any more."""
        if self._listening:
            self._loop.remove_reader(self._socket)
            self._listening = False
        self._silence()

    def say(self, message: dict[str, Any]) -> None:
        """Sends a message, in the background where it does not go at once."""
        self.read()
        self._expects = True
        self._outbox = memoryview(frames.pack(message, frames.MAX_TO_WORKER))
        self._write()
        if self._outbox and self._listening:
            self._loop.add_writer(self._socket, self._write)
            self._writing = True

    def has_moved(self) -> bool:
        """Whether bytes came or are still to go since this was asked last.

        A long message is more than the kernel holds: its sender waits for us, not for itself.
        """
        moved = self._heard_bytes != self._noted_bytes or len(self._outbox) > 0
        self._noted_bytes = self._heard_bytes
        return moved

    @property
    def has_message(self) -> bool:
        """Whether the answer has come and was not taken yet."""
        return self._missing_bytes() <= 0

    def take(self) -> dict[str, Any] | None:
        """The message that was waited for, if it has come.

        Raises:
            Stopped: what came is no message.
        """
        if not self.has_message:
            return None
        body = bytes(memoryview(self._inbox)[frames.LENGTH.size :])
        self._inbox.clear()
        self._expects = False
        try:
            return frames.unpack(body)
        except (frames.FrameError, MemoryError, RecursionError) as error:
            raise Stopped(Verdict.CRASHED, f"broke the protocol: {error}") from None

    def read(self) -> None:
        """Takes what has come so far; never waits."""
        while not self.hung_up:
            try:
                part = self._socket.recv(READ_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                part = b""
            if not part:
                self.hung_up = True
                self.close()
                self._changed()
                return
            self._inbox += part
            self._heard_bytes += len(part)
            if not self._in_order():
                return
            if len(part) < READ_BYTES:
                return

    def _in_order(self) -> bool:
        """Whether all that came is at most the one message that was waited for."""
        if not self._expects:
            self._stop(Stopped(Verdict.CRASHED, "answered before it was asked"))
            return False
        if self._heard_bytes > MAX_HEARD_BYTES:
            limit = MAX_HEARD_BYTES
            self._stop(Stopped(Verdict.OUTPUT_LIMIT, f"answered more than {limit} bytes in all"))
            return False
        missing = self._missing_bytes()
        if len(self._inbox) + missing > frames.LENGTH.size + frames.MAX_FROM_WORKER:
            limit = frames.MAX_FROM_WORKER
            self._stop(Stopped(Verdict.OUTPUT_LIMIT, f"returned a value over {limit} bytes"))
            return False
        if missing < 0:
            self._stop(Stopped(Verdict.CRASHED, "answered more than it was asked"))
            return False
        if missing == 0:
            self._changed()
        return True

    def _missing_bytes(self) -> int:
        if len(self._inbox) < frames.LENGTH.size:
            return frames.LENGTH.size - len(self._inbox)
        (length,) = frames.LENGTH.unpack_from(self._inbox)
        return frames.LENGTH.size + length - len(self._inbox)

    def _write(self) -> None:
        while self._outbox:
            try:
                sent = self._socket.send(self._outbox)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # it has gone, which reading tells as well
                break
            self._outbox = self._outbox[sent:]
        self._silence()

    def _silence(self) -> None:
        self._outbox = memoryview(b"")
        if self._writing:
            self._loop.remove_writer(self._socket)
            self._writing = False
