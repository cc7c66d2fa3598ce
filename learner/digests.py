"""Digests of a step that stand in its row of metrics.jsonl; `mlx-replay` compares with them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx

from protocol.weights import pack

WEIGHTS = "digest/weights"
"""xxh3-128 of the bytes that the step published."""
ROLLOUTS = "digest/rollouts"
"""SHA-256 of the bytes of the step's file in rollouts/."""
MASTERS = "digest/masters"
"""SHA-256 of the fp32 masters after the step; in deterministic runs."""


def masters_digest(arrays: Mapping[str, mx.array]) -> str:
    """SHA-256 over name, dtype, shape and bytes of every array, sorted by name, in hexadecimal."""
    state = hashlib.sha256()
    for name in sorted(arrays):
        packed = pack([(name, arrays[name])])  # one at a time: a copy of all would double them
        (spec,) = packed.tensors
        state.update(f"{name}\0{spec.dtype}\0{list(spec.shape)}\0".encode())
        state.update(packed.data)
    return state.hexdigest()


def rollouts_digest(rollouts: Path | bytes) -> str:
    """SHA-256 in hexadecimal of a file of rollouts, or of its bytes."""
    if isinstance(rollouts, bytes):
        return hashlib.sha256(rollouts).hexdigest()
    with rollouts.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
