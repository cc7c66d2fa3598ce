"""Messages between a reward worker and its children: four bytes of length, then msgpack.

    worker -> child   {"rewards": [config as JSON, ...], "network": bool, "network_anyway": bool}
    child -> worker   {"binding": index}                                     before each reward
                      {"bound": [[uses_sandbox, needs_network], ...]} or
                      {"failed": kind, "why": text}
    worker -> child   {"call": n, "reward": index, "batch": n, "tasks": [TASK, ...] or nil}
                      (nil: those of the batch that it was told last)
    child -> worker   {"ask": n, "method": name, ...}                        of the sandbox
                      {"said": n, "outcomes": [[reward, seconds, status, failure, facts], ...]}
    worker -> child   {"answer": n, "result": {...}} | {"answer": n, "error": text}

A reward function may write anything anywhere, so the worker believes no byte of a child: what is no
message, or not the one that is due, is a crash of the child.
"""

import asyncio
import socket
import struct
from typing import Any

import msgpack

LENGTH = struct.Struct(">I")
MAX_BYTES = 1 << 30
"""Of a message to a child."""
MAX_FROM_CHILD = 128 << 20
"""Of a message from it: a candidate and its tests."""

Said = dict[str, Any]


class Garbage(Exception):  # noqa: N818 - what came
    """Bytes that are no message, or not the one that was due."""


def pack(message: Said) -> bytes:
    """Length and body of a message."""
    body: bytes = msgpack.packb(message, unicode_errors="surrogatepass")
    return LENGTH.pack(len(body)) + body


def unpack(body: bytes) -> Said:
    """Message of a body.

    Raises:
        Garbage: it is none.
    """
    try:
        message: object = msgpack.unpackb(body, unicode_errors="surrogatepass")
    except Exception as error:  # noqa: BLE001 - msgpack documents no common base
        raise Garbage(f"no message: {type(error).__name__}") from None
    if not isinstance(message, dict):
        raise Garbage(f"a {type(message).__name__}, wanted a message")
    return message


async def receive(reader: asyncio.StreamReader) -> Said:
    """Next message of a child.

    Raises:
        Garbage: what came is no message.
        EOFError: the child has hung up.
    """
    try:
        (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        if length > MAX_FROM_CHILD:
            raise Garbage(f"a message of {length} bytes, at most {MAX_FROM_CHILD} are taken")
        return unpack(await reader.readexactly(length))
    except OSError as error:
        raise EOFError(str(error)) from None


class Channel:
    """The child's end: a blocking socket whose messages may also be taken as they come."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._inbox = bytearray()

    def send(self, message: Said) -> None:
        """Send a message; the worker always listens."""
        self.socket.sendall(pack(message))

    def receive(self) -> Said:
        """Wait for the next message.

        Raises:
            EOFError: the worker has gone.
        """
        while (message := self._next()) is None:
            self._take(self.socket.recv(1 << 20))
        return message

    def arrived(self) -> list[Said]:
        """Messages that have come; does not wait."""
        try:
            self._take(self.socket.recv(1 << 20, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return []
        messages: list[Said] = []
        while message := self._next():
            messages.append(message)
        return messages

    def _take(self, part: bytes) -> None:
        if not part:
            raise EOFError("the worker has gone")
        self._inbox += part

    def _next(self) -> Said | None:
        if len(self._inbox) < LENGTH.size:
            return None
        (length,) = LENGTH.unpack_from(self._inbox)
        end = LENGTH.size + length
        if len(self._inbox) < end:
            return None
        body = bytes(self._inbox[LENGTH.size : end])
        del self._inbox[:end]
        return unpack(body)
