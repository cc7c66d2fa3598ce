"""A worker on its way, seen from the supervisor: its descriptors, its first word, its end.

Its process id is learnt from the kernel, which stamps it on the worker's first frame in the
supervisor's own numbering. From then on a pidfd stands for the process, so that a kill never
meets a stranger that got the number later.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
from typing import Any

from reward_workers.sandbox.backend import Ended, SandboxFault, Spawned
from reward_workers.sandbox.harness import frames

READY_SECONDS = 60.0
"""Until a worker must be ready: generous, a busy machine is no fault."""

_CREDENTIALS = struct.Struct("3i")
_STATUS_BYTES = 4096
_KILLED = Ended(exit_code=None, signal=signal.SIGKILL, cpu_seconds=0.0, peak_bytes=0)


class NewWorker:
    """One worker's sockets and pipes. Made in the event loop's thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._channel, their_channel = socket.socketpair()
        self._channel.setblocking(False)
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._stdout, their_stdout = os.pipe()
        self._stderr, their_stderr = os.pipe()
        self._status, their_status = os.pipe()
        for ours in (self._stdout, self._stderr, self._status):
            os.set_blocking(ours, False)
        self.theirs = (their_channel.detach(), their_stdout, their_stderr, their_status)
        """Descriptors for the worker: channel, stdout, stderr, status."""
        self._pidfd: int | None = None
        self._said = bytearray()
        self._status_said = b""
        self._fault = ""
        self._spoken: asyncio.Future[int] = self._loop.create_future()
        self.ended: asyncio.Future[Ended] = self._loop.create_future()
        self._loop.add_reader(self._status, self._read_status)

    def close_theirs(self) -> None:
        """The worker has its copies, or never will."""
        for descriptor in self.theirs:
            os.close(descriptor)
        self.theirs = ()

    async def ready(self) -> Spawned:
        """Wait for its first word.

        Raises:
            SandboxFault: it ended, could not confine itself, or took too long.
        """
        self._loop.add_reader(self._channel, self._read_first_frame)
        try:
            async with asyncio.timeout(READY_SECONDS):
                pid = await self._spoken
            self._pidfd = os.pidfd_open(pid)
        except BaseException as error:
            self.abandon()
            if isinstance(error, TimeoutError | OSError):
                raise SandboxFault(f"a worker was not ready: {error!r}") from None
            raise
        self._loop.remove_reader(self._channel)
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        return Spawned(pid, self._channel, self._stdout, self._stderr, self.kill, self.ended)

    def kill(self) -> None:
        """End its process, and with it its guardian, who ends what is left."""
        if self._pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def abandon(self) -> None:
        """Close what is ours; a worker that finds its channel closed ends."""
        self._loop.remove_reader(self._channel)
        self._channel.close()
        os.close(self._stdout)
        os.close(self._stderr)

    def _read_first_frame(self) -> None:
        try:
            part, ancillary, _, _ = self._channel.recvmsg(
                4096, socket.CMSG_SPACE(_CREDENTIALS.size)
            )
        except BlockingIOError:
            return
        except OSError:
            part, ancillary = b"", []
        if not part:
            self._loop.remove_reader(self._channel)
            self.ended.add_done_callback(self._never_ready)
            return
        self._said += part
        body = self._said[frames.LENGTH.size :]
        if self._spoken.done() or len(self._said) < frames.LENGTH.size:
            return
        if len(body) >= frames.LENGTH.unpack_from(self._said)[0]:
            pids = [_CREDENTIALS.unpack(data)[0] for _, _, data in ancillary]
            self._take_first_word(frames.unpack(bytes(body)), pids)

    def _take_first_word(self, message: dict[str, Any], pids: list[int]) -> None:
        if message == {"ready": True} and pids and pids[0] > 0:
            self._spoken.set_result(pids[0])
        else:
            self._spoken.set_exception(SandboxFault(str(message.get("fault", message))))

    def _never_ready(self, ended: asyncio.Future[Ended]) -> None:
        if not self._spoken.done() and not ended.cancelled():
            reason = self._fault or f"a worker ended before it was ready: {ended.result()}"
            self._spoken.set_exception(SandboxFault(reason))

    def _read_status(self) -> None:
        try:
            part = os.read(self._status, _STATUS_BYTES)
        except BlockingIOError:
            return
        self._status_said += part
        if part:
            return
        self._loop.remove_reader(self._status)
        os.close(self._status)
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
        if not self.ended.done():
            self.ended.set_result(self._how_it_ended())

    def _how_it_ended(self) -> Ended:
        """The guardian's word; where it has none, it was killed."""
        if not self._status_said.endswith(b"\n"):
            return _KILLED
        status = json.loads(self._status_said)
        self._fault = status.get("fault", "")
        return _KILLED if self._fault else Ended(**status)
