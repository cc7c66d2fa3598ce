"""Message <-> frames: header, msgpack body, raw buffer. Pure functions, no sockets.

    frame 0   header    big-endian: magic (4 bytes), protocol version (uint16), code (uint16)
    frame 1   body      msgpack map of the message's fields
    frame 2   raw       only with a Chunk: its bytes

The header has the same form in every protocol version, so that any two can tell each other.
"""

import struct
from typing import NamedTuple, cast

import msgpack
from pydantic import ValidationError

from protocol.errors import VersionError, WireError
from protocol.fields import MAX_ITEMS
from protocol.messages import MESSAGE_TYPES, PROTOCOL_VERSION, Chunk, Message

MAGIC = b"MRLT"
MAX_FRAMES = 3
MAX_FRAME_BYTES = 64 * 2**20
MAX_CONTAINERS = 250_000
"""Arrays and maps in one body: each costs 60 times its bytes in memory."""
MAX_ERROR_TEXT = 300
_HEADER = struct.Struct(">4sHH")

Buffer = bytes | bytearray | memoryview


class Received(NamedTuple):
    """A decoded message and the raw frame that came with it (empty for all but a Chunk)."""

    message: Message
    raw: Buffer


def encode(message: Message, raw: Buffer | None = None) -> list[Buffer]:
    """Frames of a message; `raw` is sent as a frame of its own, without a copy."""
    header = _HEADER.pack(MAGIC, PROTOCOL_VERSION, message.code)
    body = msgpack.packb(message.model_dump(), use_bin_type=True)
    return [header, body] if raw is None else [header, body, raw]


def encode_single(message: Message) -> bytes:
    """One frame, header and body together: PUB sockets may drop parts of longer messages."""
    return b"".join(encode(message))


def decode_single(frame: Buffer) -> Received:
    """Message in a frame of `encode_single`; raises as `decode` does."""
    return decode([frame[: _HEADER.size], frame[_HEADER.size :]])


def decode(frames: list[Buffer]) -> Received:
    """Message in the frames, validated.

    Raises:
        VersionError: the sender speaks another protocol version.
        WireError: anything else that is no valid message; `reason` is the label to count it under.
    """
    if not 2 <= len(frames) <= MAX_FRAMES:
        raise WireError(f"{len(frames)} frames, wanted 2 or {MAX_FRAMES}", "frames")
    if any(len(frame) > MAX_FRAME_BYTES for frame in frames):
        raise WireError(f"a frame of more than {MAX_FRAME_BYTES} bytes", "too_large")
    message_type = MESSAGE_TYPES.get(_code(frames[0]))
    if message_type is None:
        raise WireError("unknown message code", "unknown_code")
    if len(frames) == 3 and message_type is not Chunk:
        raise WireError(f"a raw frame with a {message_type.__name__}", "frames")
    return Received(_body(message_type, frames[1]), frames[2] if len(frames) == 3 else b"")


def _code(header: Buffer) -> int:
    if len(header) != _HEADER.size:
        raise WireError(f"a header of {len(header)} bytes, wanted {_HEADER.size}", "header")
    magic, version, code = _HEADER.unpack(header)
    if magic != MAGIC:
        raise WireError("the header does not begin with the protocol's magic bytes", "header")
    if version != PROTOCOL_VERSION:
        raise VersionError(version, PROTOCOL_VERSION)
    return cast(int, code)


def _body(message_type: type[Message], body: Buffer) -> Message:
    try:
        fields: object = _unpack(body)
    except Exception as error:  # noqa: BLE001 - hostile bytes: msgpack raises many kinds
        raise WireError(f"the body is no msgpack: {error}", "malformed") from None
    try:
        return message_type.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "message"
        text = f"a {message_type.__name__} with a bad {where}: {first['msg']}"
        raise WireError(text[:MAX_ERROR_TEXT], "invalid") from None


def _unpack(body: Buffer) -> object:
    containers = 0

    def count(container: object) -> object:
        nonlocal containers
        containers += 1
        if containers > MAX_CONTAINERS:
            raise ValueError(f"more than {MAX_CONTAINERS} arrays and maps")
        return container

    return msgpack.unpackb(
        body,
        strict_map_key=True,
        list_hook=count,
        object_hook=count,
        max_array_len=MAX_ITEMS,
        max_map_len=MAX_ITEMS,
    )
