"""A fetched version, made ready beside the main thread, so that the switch itself is short.

`prepare` may run in any thread: it makes arrays from numpy's, which takes no stream. Operations of
mlx are lazy and belong to the thread that built them, so `weights`, which has some, is for the
thread that computes.
"""

# pyright: standard
# (much of mlx is untyped)

import math
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from actors.fetch import Fetched
from protocol.errors import WeightsError
from protocol.message_parts import TensorSpec
from protocol.messages import Manifest
from protocol.policy import DTYPES

_OTHERS: dict[str, mx.Dtype] = {"uint32": mx.uint32, "uint8": mx.uint8, "int32": mx.int32}
_WORDS: dict[int, Any] = {1: np.uint8, 2: np.uint16, 4: np.uint32}


class Prepared(NamedTuple):
    """A version whose arrays only need to be looked at as what they are."""

    manifest: Manifest
    arrays: dict[str, tuple[mx.array, mx.Dtype]]
    """By name: the words, or the numbers, and the dtype that they are to be seen in."""

    def weights(self) -> dict[str, mx.array]:
        """The arrays by name, for the thread that computes with them."""
        return {
            name: array if array.dtype == dtype else array.view(dtype)
            for name, (array, dtype) in self.arrays.items()
        }


def prepare(fetched: Fetched, compute_dtype: mx.Dtype) -> Prepared:
    """Copy a version out of its bytes, in `compute_dtype` where numpy can convert to it.

    Raises:
        WeightsError: a tensor's bytes do not fill its shape, or memory has no room for it.
    """
    data = memoryview(fetched.data)
    arrays: dict[str, tuple[mx.array, mx.Dtype]] = {}
    start = 0
    for spec in fetched.manifest.tensors:
        part = data[start : start + spec.num_bytes]
        try:
            arrays[spec.name] = _array(spec, part, compute_dtype)
        except MemoryError as error:
            raise WeightsError(f"no memory for {spec.name} of {spec.num_bytes} bytes") from error
        except (ValueError, OverflowError, TypeError) as error:  # numpy's word, or mlx's
            raise WeightsError(f"{spec.name} of shape {spec.shape}: {error}") from error
        start += spec.num_bytes
    return Prepared(fetched.manifest, arrays)


def _array(
    spec: TensorSpec, data: memoryview, compute_dtype: mx.Dtype
) -> tuple[mx.array, mx.Dtype]:
    dtype = DTYPES[spec.dtype] if spec.dtype in DTYPES else _OTHERS[spec.dtype]
    if math.prod(spec.shape) * dtype.size != spec.num_bytes:
        raise WeightsError(f"{spec.name}: {spec.num_bytes} bytes for shape {spec.shape}")
    words: NDArray[Any] = np.frombuffer(data, _WORDS[dtype.size]).reshape(spec.shape)
    if compute_dtype == mx.float32 and spec.dtype in DTYPES:
        return mx.array(_float32(words, spec.dtype)), mx.float32
    return mx.array(words), dtype


def _float32(words: NDArray[Any], dtype: str) -> NDArray[np.float32]:
    """The same numbers in fp32; numpy lets the other threads go on meanwhile."""
    if dtype == "bfloat16":  # is the upper half of an fp32
        return np.left_shift(words, 16, dtype=np.uint32).view(np.float32)
    if dtype == "float16":
        return words.view(np.float16).astype(np.float32)
    return words.view(np.float32)
