"""Arrays as a safetensors file, so written that another thread can do it.

`mx.save_safetensors` is not used: its error does not say whether the disk is full, and the order of
its bytes is that of a hash table. The same arrays are the same bytes here, on every machine.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import mlx.core as mx
import numpy as np

_DTYPES = {
    mx.float32: "F32",
    mx.bfloat16: "BF16",
    mx.float16: "F16",
    mx.uint64: "U64",
    mx.uint32: "U32",
    mx.uint16: "U16",
    mx.uint8: "U8",
    mx.int64: "I64",
    mx.int32: "I32",
    mx.int16: "I16",
    mx.int8: "I8",
    mx.bool_: "BOOL",
}
_UNSIGNED = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32, 8: mx.uint64}
_ALIGNMENT = 8


class FrozenArray(NamedTuple):
    """One array's values, whatever becomes of the name that it had."""

    name: str
    dtype: str
    """As safetensors calls it."""
    shape: tuple[int, ...]
    data: memoryview
    """The array's own memory: nothing is copied, and MLX does not write there again."""


def freeze(arrays: Mapping[str, mx.array]) -> tuple[FrozenArray, ...]:
    """Evaluate arrays and take hold of their bytes, the widest types first, then by name.

    It computes with MLX, so it belongs into the thread that trains; what it returns does not.
    """
    ordered = sorted(arrays.items(), key=lambda pair: (-pair[1].dtype.size, pair[0]))
    flat = [
        mx.contiguous(array).reshape(-1).view(_UNSIGNED[array.dtype.size]) for _, array in ordered
    ]
    mx.eval(flat)
    return tuple(
        FrozenArray(name, _DTYPES[array.dtype], tuple(array.shape), _memory(unsigned))
        for (name, array), unsigned in zip(ordered, flat, strict=True)
    )


def safetensors(
    arrays: tuple[FrozenArray, ...], metadata: Mapping[str, str] | None = None
) -> Iterator[memoryview]:
    """The file's bytes, piece by piece; `mx.load` reads them."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    start = 0
    for array in arrays:
        end = start + array.data.nbytes
        header[array.name] = {
            "dtype": array.dtype,
            "shape": list(array.shape),
            "data_offsets": [start, end],
        }
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    yield memoryview(len(text).to_bytes(8, "little") + text)
    for array in arrays:
        yield array.data


def load_arrays(path: Path) -> dict[str, mx.array]:
    """Every array of a safetensors file, read."""
    arrays = mx.load(str(path))
    assert isinstance(arrays, dict)
    mx.eval(arrays)
    return arrays


def _memory(array: mx.array) -> memoryview:
    if not array.size:
        return memoryview(b"")
    return memoryview(cast(Any, np.array(array, copy=False))).cast("B").toreadonly()
