"""What a version's way to one receiver is made of, each part measured alone."""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from actors.fresh_memory import FreshMemory
from bench.table.weights_wire import SMOLLM2_BYTES, WeightsWire
from learner.exchange.publish import CHUNK_BYTES
from protocol.weights import digest_of

REPEATS = 5


def profile() -> str:
    """Seconds of the whole, and of its parts."""
    wire = WeightsWire(1, SMOLLM2_BYTES)
    try:
        rounds = [(wire.chunks_seconds(), wire.tcp_seconds()) for _ in range(REPEATS + 1)]
    finally:
        wire.close()
    data = np.random.default_rng(0).bytes(SMOLLM2_BYTES)  # zeros would be one page, always cached
    room = bytearray(SMOLLM2_BYTES)
    lines = [
        ("chunks, one receiver", median(ours for ours, _ in rounds[1:])),
        ("raw TCP", median(theirs for _, theirs in rounds[1:])),
        ("the digest", _median_seconds(lambda: digest_of(data))),
        ("a copy of the bytes into their place", _median_seconds(lambda: _copy(room, data))),
        ("the same into fresh memory", _median_seconds(lambda: _fill(data))),
    ]
    return "\n".join(f"{seconds:8.3f} s  {what}" for what, seconds in lines)


def _copy(room: bytearray, data: bytes) -> None:
    view = memoryview(data)
    for start in range(0, len(data), CHUNK_BYTES):
        room[start : start + CHUNK_BYTES] = view[start : start + CHUNK_BYTES]


def _fill(data: bytes) -> None:
    memory, view = FreshMemory(len(data)), memoryview(data)
    for start in range(0, len(data), CHUNK_BYTES):
        memory.fill(start, view[start : start + CHUNK_BYTES])


def _median_seconds(once: Callable[[], Any]) -> float:
    took: list[float] = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        once()
        took.append(time.perf_counter() - began)
    return median(took)
