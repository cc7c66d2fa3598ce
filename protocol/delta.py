"""Lossless delta between two versions' bytes: what a training step leaves as it was costs nothing.

A step changes few bits of a rounded weight, and these are low ones. So each tensor becomes the XOR
of its old and new words, written as byte planes (all high bytes, then all next ones, ...), where
runs of zeros are long; all tensors one after the other are one zstd frame. The bytes are taken as
little-endian, which they are on every platform that mlx runs on.

This module checks that a payload has the right form and size. That it is applied to the right
bytes is the caller's check, by `Manifest.from_digest` and `weights_digest`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from protocol.errors import WeightsError
from protocol.message_parts import TensorSpec
from protocol.wire import Buffer

Words = NDArray[np.unsignedinteger[Any]]
Bytes = NDArray[np.uint8]

_WORD_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "uint32": 4, "uint8": 1, "int32": 4}
_BLOCK_WORDS = 2**17
"""Worked on at a time, so that the steps in between stay in the core's cache."""
_WINDOW_LOG = 19
"""zstd's own choice at level 1; fixed, because a receiver refuses frames that need more memory."""
_MAX_WINDOW_BYTES = 2**20
_RLE_BLOCK = 1


def encode_delta(tensors: Sequence[TensorSpec], old: Buffer, new: Buffer) -> bytes:
    """The payload that turns `old` into `new`; beside its pieces, room for one tensor is allocated.

    Args:
        tensors: what both versions are made of, in their order.
        old: the version that the receiver has.
        new: the version that it is to get.

    Raises:
        WeightsError: a version does not fill the tensors.
    """
    old_bytes, new_bytes = _filled(tensors, old), _filled(tensors, new)
    parameters = zstandard.ZstdCompressionParameters.from_level(  # pyright: ignore[reportUnknownMemberType]
        1, window_log=_WINDOW_LOG
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    stream = compressor.compressobj(size=new_bytes.size)
    scratch = _scratch(tensors)
    parts: list[bytes] = []
    for old_words, new_words in zip(
        _words(tensors, old_bytes), _words(tensors, new_bytes), strict=True
    ):
        planes = scratch[: new_words.nbytes]
        _split(old_words, new_words, planes)
        parts.append(stream.compress(planes.data))
    parts.append(stream.flush())
    return b"".join(parts)


def apply_delta(tensors: Sequence[TensorSpec], old: Buffer, payload: Buffer) -> memoryview:
    """The new version's bytes; beside them, room for one tensor is allocated, whatever comes in.

    Applied to other bytes than it was made from, a payload gives a version that never was.

    Raises:
        WeightsError: the payload is no delta of these tensors, or `old` does not fill them.
    """
    old_bytes = _filled(tensors, old)
    _check_frame(payload, old_bytes.size)
    scratch = _scratch(tensors)
    new = np.empty(old_bytes.size, np.uint8)
    np.copyto(new, old_bytes)  # other threads go on meanwhile, unlike with bytearray(old)
    decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
    try:
        with decompressor.stream_reader(payload) as stream:
            for words in _words(tensors, new):
                planes = scratch[: words.nbytes]
                _read_into(stream, planes)
                _merge(planes, words)
            if stream.read(1):  # zstd looked ahead and found it already, but promises no such thing
                raise WeightsError(f"a delta of more than the {len(new)} bytes of the version")
    except zstandard.ZstdError as error:
        raise WeightsError(f"a delta that zstd cannot read: {error}") from error
    return new.data


def _filled(tensors: Sequence[TensorSpec], version: Buffer) -> Bytes:
    """The version's bytes, which are those of whole words in every tensor."""
    data = np.frombuffer(version, np.uint8)
    for spec in tensors:
        if spec.num_bytes % _WORD_BYTES[spec.dtype]:
            raise WeightsError(f"{spec.name}: {spec.num_bytes} bytes of {spec.dtype}")
    if sum(spec.num_bytes for spec in tensors) != data.size:
        raise WeightsError(f"{data.size} bytes do not fill the manifest's tensors")
    return data


def _scratch(tensors: Sequence[TensorSpec]) -> Bytes:
    """Room for the planes of any one tensor."""
    return np.empty(max((spec.num_bytes for spec in tensors), default=0), np.uint8)


def _words(tensors: Sequence[TensorSpec], data: Bytes) -> Iterator[Words]:
    """Each tensor as unsigned words, which lie where they are in `data`."""
    start = 0
    for spec in tensors:
        stop = start + spec.num_bytes
        yield data[start:stop].view(f"<u{_WORD_BYTES[spec.dtype]}")
        start = stop


def _split(old: Words, new: Words, planes: Bytes) -> None:
    """Write the byte planes of `old ^ new`."""
    changed = np.empty(min(new.size, _BLOCK_WORDS), new.dtype)
    shifted = np.empty_like(changed)
    rows = planes.reshape(new.itemsize, new.size)
    for start in range(0, new.size, _BLOCK_WORDS):
        block = slice(start, min(start + _BLOCK_WORDS, new.size))
        length = block.stop - start
        np.bitwise_xor(old[block], new[block], out=changed[:length])
        if not changed[:length].any():
            rows[:, block] = 0
            continue
        for row, shift in zip(rows, _shifts(new.itemsize), strict=True):
            np.right_shift(changed[:length], shift, out=shifted[:length])
            np.copyto(row[block], shifted[:length], casting="unsafe")  # keeps the low byte


def _merge(planes: Bytes, words: Words) -> None:
    """XOR the words, in place, with those that the byte planes hold."""
    shifted = np.empty(min(words.size, _BLOCK_WORDS), words.dtype)
    rows = planes.reshape(words.itemsize, words.size)
    for start in range(0, words.size, _BLOCK_WORDS):
        block = slice(start, min(start + _BLOCK_WORDS, words.size))
        length = block.stop - start
        for row, shift in zip(rows, _shifts(words.itemsize), strict=True):
            if row[block].any():  # high bytes seldom change
                np.copyto(shifted[:length], row[block])
                np.left_shift(shifted[:length], shift, out=shifted[:length])
                np.bitwise_xor(words[block], shifted[:length], out=words[block])


def _shifts(word_bytes: int) -> range:
    """How far each plane's byte lies above the lowest one: the high bytes come first."""
    return range(8 * (word_bytes - 1), -1, -8)


def _read_into(stream: zstandard.ZstdDecompressionReader, planes: Bytes) -> None:
    got = 0
    while got < planes.size:
        rest = planes[got:].data
        count = stream.readinto(rest)  # pyright: ignore[reportUnknownMemberType]
        if not count:
            raise WeightsError(f"a delta that is cut short, {planes.size - got} bytes of a tensor")
        got += count


def _check_frame(payload: Buffer, num_bytes: int) -> None:
    """Raise WeightsError unless the payload is one whole zstd frame that promises `num_bytes`.

    The decompressor itself takes no notice of bytes behind the frame, nor of a missing end.

    Source:
        RFC 8878, section 3.1.1: a frame is a header, blocks that begin with 3 bytes, a checksum.
    """
    try:
        facts = zstandard.get_frame_parameters(payload)
        stop = zstandard.frame_header_size(payload)
    except zstandard.ZstdError as error:
        raise WeightsError(f"a delta that is no zstd frame: {error}") from error
    if facts.content_size != num_bytes:
        raise WeightsError(f"a delta of {facts.content_size} bytes, wanted {num_bytes}")
    is_last = False
    while not is_last and stop < len(payload):
        header = int.from_bytes(payload[stop : stop + 3], "little")
        is_last = bool(header & 1)
        stop += 3 + (1 if header >> 1 & 3 == _RLE_BLOCK else header >> 3)
    stop += 4 * facts.has_checksum
    if not is_last or stop != len(payload):
        raise WeightsError(f"a delta of {len(payload)} bytes whose frame ends at {stop}")
