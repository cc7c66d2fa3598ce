"""Frames between supervisor and worker: four bytes of length, then JSON. Both sides share this.

What either side says:

    worker -> supervisor     {"ready": true}                                 confined, self-tested
    supervisor -> worker     {"mode": "calls", "code", "entry", "handles": bool?}  its one job, or
                             {"mode": "stdio", "code", "stdin"}              or
                             {"mode": "tester", "tests": [str], "support", "entry", "callables"}

    calls    worker:     {"loaded": [callables]} | {"error": ERROR}
             supervisor: {"call": TARGET, "args": VALUE, "kwargs": VALUE, "id": n}
             worker:     {"value": VALUE, "args": VALUE?, "form": FORM?, "id": n}
                         | {"error": ERROR, "id": n}
                         (args: the arguments after the call, where it returned None and had
                         changed them in place; a tester ignores them beside a value)
    stdio    worker:     {"error": ERROR} or nothing; its output and exit are what counts
    tester   worker:     {"call": TARGET, "args": VALUE, "kwargs": VALUE, "id": n}
                         | {"attribute": name, "of": TARGET, "id": n}
                         | {"assign": name, "of": TARGET, "value": VALUE, "id": n}
             supervisor: {"value": ...} | {"error": ...}, as the candidate answered
             worker:     {"done": [{"ok": bool, "detail": str}, ...], "num_calls": n}
                         | {"error": ERROR}

ERROR is {"type": class name, "message": text, "where": "load" | "call" | "result"}; VALUE is of
harness/values.py: args a list, kwargs a dict. `id` counts requests from 0 and is echoed; it is for
order, not a secret. `num_calls` counts the tester's requests: 0 means that the candidate was never
tried, whatever the outcomes say; `done` may be empty.

Errors with where "result": NotPlain (the value is no VALUE), OutputLimit (its frame is too long).
A tester's load error has type TestError: the tests or their support are at fault.

In tests mode the candidate's job says `"handles": true`, and the supervisor relays the tester's
three requests to it. Then what is no VALUE is no error but stays with the candidate, and a handle
goes in its place: {"handle": [number, class name]}, anywhere in a VALUE, in both directions.
TARGET is a top-level name, "Class.method" (on a new instance), or a handle's number (tester only).
FORM says what the value stands for: "iterator" (the items of an iterator, a range or a view),
"endless" (its first items; there were more), "coroutine" (what it returned). Without "handles"
none of the three occurs, except that a coroutine's result is sent as the value.
The relay: decode(VALUE, handle=keep) and encode() again; every other field is an int (id, a
TARGET), one of the strings above, or a str (name, a TARGET).
"""

import json
import socket
import struct
from typing import Any

LENGTH = struct.Struct(">I")
MAX_TO_WORKER = 64 << 20
MAX_FROM_WORKER = 1 << 20
"""Bytes of one frame; a candidate whose value does not fit has failed."""


class FrameError(Exception):
    """Bytes that are no frame, or a frame that is too long."""


def pack(message: dict[str, Any], max_bytes: int) -> bytes:
    """Length and JSON of a message.

    Raises:
        FrameError: it is longer than `max_bytes`.
    """
    body = json.dumps(message, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()
    if len(body) > max_bytes:
        raise FrameError(f"a message of {len(body)} bytes, at most {max_bytes} are taken")
    return LENGTH.pack(len(body)) + body


def unpack(body: bytes) -> dict[str, Any]:
    """Message of a frame's body.

    Raises:
        FrameError: it is no JSON object.
    """
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"no JSON: {type(error).__name__}") from None
    if not isinstance(message, dict):
        raise FrameError(f"a {type(message).__name__}, wanted an object")
    return message


def send(channel: socket.socket, message: dict[str, Any], max_bytes: int) -> None:
    """Send one message on a blocking socket."""
    channel.sendall(pack(message, max_bytes))


def receive(channel: socket.socket, max_bytes: int) -> dict[str, Any]:
    """Next message from a blocking socket.

    Raises:
        FrameError: no frame, or one that is too long.
        EOFError: the other side has gone.
    """
    (length,) = LENGTH.unpack(_exactly(channel, LENGTH.size))
    if length > max_bytes:
        raise FrameError(f"a message of {length} bytes, at most {max_bytes} are taken")
    return unpack(_exactly(channel, length))


def _exactly(channel: socket.socket, num_bytes: int) -> bytes:
    parts: list[bytes] = []
    while num_bytes > 0:
        part = channel.recv(min(num_bytes, 1 << 20))
        if not part:
            raise EOFError("the other side has gone")
        parts.append(part)
        num_bytes -= len(part)
    return b"".join(parts)
