"""Types of message fields: bounded numbers and texts, and arrays as raw little-endian bytes."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, PlainSerializer

MAX_GROUP_SIZE = 4096
MAX_TOKENS = 1_000_000
MAX_ITEMS = 100_000
"""Of any array in a message, and keys of any map."""
MAX_TEXT = 4_000_000


def _array_of(dtype: str) -> Callable[[object], NDArray[Any]]:
    def read(value: object) -> NDArray[Any]:
        if isinstance(value, bytes):
            if len(value) % np.dtype(dtype).itemsize:
                raise ValueError(f"{len(value)} bytes are no whole number of {dtype} values")
            return np.frombuffer(value, dtype=dtype)
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                array = np.ascontiguousarray(value, dtype=dtype)
        except (TypeError, OverflowError) as error:  # pydantic turns only ValueError into data
            raise ValueError(str(error)) from None
        if array.ndim != 1:
            raise ValueError(f"an array of {array.ndim} dimensions, wanted 1")
        return array

    return read


def _array_bytes(array: NDArray[Any]) -> bytes:
    return array.tobytes()


TokenIds = Annotated[
    NDArray[np.int32], BeforeValidator(_array_of("<i4")), PlainSerializer(_array_bytes)
]
"""[T] int32 token ids; little-endian bytes on the wire."""

Logprobs = Annotated[
    NDArray[np.float32], BeforeValidator(_array_of("<f4")), PlainSerializer(_array_bytes)
]
"""[T] float32 logprobs in nats; little-endian bytes on the wire."""

Name = Annotated[str, Field(min_length=1, max_length=200)]
Text = Annotated[str, Field(max_length=MAX_TEXT)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Digest = Annotated[str, Field(max_length=128)]
MAX_FACTS = 16
MAX_FACT_TEXT = 200

FactName = Annotated[str, Field(pattern=r"^[a-z_]{1,40}$")]
FactNumber = Annotated[float, Field(allow_inf_nan=False)]
FactCount = Annotated[int, Field(ge=-(2**53), le=2**53)]
FactText = Annotated[str, Field(max_length=MAX_FACT_TEXT)]
Facts = Annotated[dict[FactName, FactCount | FactNumber | FactText], Field(max_length=MAX_FACTS)]
"""What a reward function says of one completion besides its number."""

Role = Literal["actor", "reward_worker"]
FinishReason = Literal["stop", "length"]
