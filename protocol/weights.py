"""A policy version as bytes: tensors in the order of a manifest, checked by a digest."""

# pyright: standard
# (much of mlx is untyped)

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np
import xxhash
from numpy.typing import NDArray

from protocol.messages import TensorSpec
from protocol.wire import Buffer

_BLOCK_BYTES = 2**20
_UNSIGNED = {1: (mx.uint8, np.uint8), 2: (mx.uint16, np.uint16), 4: (mx.uint32, np.uint32)}


@dataclass(frozen=True)
class FrozenWeights:
    """A version that is not copied yet, whatever becomes of the arrays that it was made of."""

    tensors: tuple[TensorSpec, ...]
    parts: tuple[NDArray[np.uint8], ...]
    """Each tensor's own memory, where MLX does not write again."""

    def digest(self) -> str:
        """What `digest_of` says of the version's bytes; in any thread."""
        state = xxhash.xxh3_128()
        for part in self.parts:
            state.update(part.data)
        return state.hexdigest()


@dataclass(frozen=True)
class PackedWeights:
    """All bytes of a version, never changed once made."""

    tensors: tuple[TensorSpec, ...]
    data: memoryview
    digest: str


def digest_of(data: Buffer) -> str:
    """xxh3-128 in hexadecimal: finds damage, not forgery (CURVE keys are for that)."""
    return xxhash.xxh3_128_hexdigest(data)


def file_digest(path: Path) -> str:
    """As `digest_of`, of a file that need not fit into memory."""
    state = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            state.update(block)
    return state.hexdigest()


def freeze(weights: Iterable[tuple[str, mx.array]]) -> FrozenWeights:
    """Evaluate arrays and take hold of their bytes, in the given order.

    It computes with MLX, so it belongs into the thread that trains; what it returns does not.
    """
    arrays = [(name, mx.contiguous(array)) for name, array in weights]
    mx.eval([array for _, array in arrays])
    specs = tuple(
        TensorSpec.model_validate(
            {
                "name": name,
                "dtype": str(array.dtype).removeprefix("mlx.core."),
                "shape": tuple(array.shape),
                "num_bytes": array.nbytes,
            }
        )
        for name, array in arrays
    )
    return FrozenWeights(specs, tuple(_bytes_of(array) for _, array in arrays))


def join(frozen: FrozenWeights, digest: str) -> PackedWeights:
    """Copy a version with this digest into one buffer; in any thread."""
    data = np.empty(sum(spec.num_bytes for spec in frozen.tensors), np.uint8)
    start = 0
    for part in frozen.parts:
        data[start : start + part.size] = part
        start += part.size
    return PackedWeights(frozen.tensors, data.data.toreadonly(), digest)


def pack(weights: Iterable[tuple[str, mx.array]]) -> PackedWeights:
    """Copy arrays into one buffer, in the given order."""
    frozen = freeze(weights)
    return join(frozen, frozen.digest())


def combined_digest(arrays: Iterable[tuple[str, mx.array]]) -> str:
    """One digest of many arrays, their names included; nothing is copied."""
    state = xxhash.xxh3_128()
    for name, array in arrays:
        state.update(name.encode())
        state.update(_bytes_of(mx.contiguous(array)).data)
    return state.hexdigest()


def _bytes_of(array: mx.array) -> NDArray[np.uint8]:
    """The array's bytes; bfloat16 is unknown to numpy, so all travel as unsigned integers."""
    unsigned, numpy_unsigned = _UNSIGNED[array.dtype.size]
    flat = cast(Any, np.array(array.reshape(-1).view(unsigned), copy=False))
    return np.ascontiguousarray(flat, numpy_unsigned).view(np.uint8)
