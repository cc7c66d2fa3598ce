"""Plain values to JSON; see values.py for the forms."""

import math
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from typing import ClassVar

from reward_workers.sandbox.harness.plain import (
    MAX_DEPTH,
    MAX_EXACT_INT,
    MAX_INT_BITS,
    Handle,
    Json,
    NotPlain,
    TooLarge,
    Value,
    class_name,
    has_surrogates,
    shown,
)


class Encoder:
    """One value on its way out: what may still be spent on it."""

    def __init__(self, otherwise: Callable[[object], Handle | None] | None, max_bytes: int) -> None:
        self._otherwise = otherwise
        self._left = max_bytes

    def encode(self, value: Value, depth: int) -> Json:
        """JSON of one value, or NotPlain."""
        if depth > MAX_DEPTH:
            raise NotPlain(f"deeper than {MAX_DEPTH}")
        self._spend(1)
        kind = type(value)
        if value is None or kind is bool:
            return value
        encode = self._FORMS.get(kind)
        if encode is not None:
            return encode(self, value, depth)
        handle = self._otherwise(value) if self._otherwise else None
        if handle is None:
            raise NotPlain(f"a {class_name(kind)} is not a plain value")
        return {"handle": [handle.number, handle.class_name]}

    def _int(self, value: int, depth: int) -> Json:
        if -MAX_EXACT_INT <= value <= MAX_EXACT_INT:
            return value
        if value.bit_length() > MAX_INT_BITS:
            raise NotPlain(f"an int of {value.bit_length()} bits, at most {MAX_INT_BITS} are taken")
        self._spend(value.bit_length() // 4)
        return {"int": hex(value)}

    def _float(self, value: float, depth: int) -> Json:
        return value if math.isfinite(value) else {"float": repr(value)}

    def _str(self, value: str, depth: int) -> Json:
        self._spend(len(value))
        if not has_surrogates(value):
            return value
        return {"str": value.encode("utf-8", "surrogatepass").hex()}

    def _bytes(self, value: bytes | bytearray, depth: int) -> Json:
        self._spend(2 * len(value))
        return {type(value).__name__: value.hex()}

    def _complex(self, value: complex, depth: int) -> Json:
        return {"complex": [self._float(value.real, depth), self._float(value.imag, depth)]}

    def _list(self, value: Value, depth: int) -> list[Json]:
        items: list[Json] = []
        for item in value:
            try:
                items.append(self.encode(item, depth + 1))
            except NotPlain as error:
                error.path = f"[{len(items)}]{error.path}"
                raise
        return items

    def _tagged(self, value: Value, depth: int) -> Json:
        return {type(value).__name__: self._list(value, depth)}

    def _dict(self, value: dict[Value, Value], depth: int) -> Json:
        pairs: list[Json] = []
        for key, item in value.items():
            try:
                pairs.append([self.encode(key, depth + 1), self.encode(item, depth + 1)])
            except NotPlain as error:
                error.path = f"[{shown(key)}]{error.path}"
                raise
        return {"dict": pairs}

    def _handle(self, value: Handle, depth: int) -> Json:
        return {"handle": [value.number, value.class_name]}

    def _spend(self, num_bytes: int) -> None:
        self._left -= num_bytes
        if self._left < 0:
            raise TooLarge("longer than a frame may be")

    _FORMS: ClassVar[dict[type, Callable[..., Json]]] = {
        int: _int,
        float: _float,
        str: _str,
        bytes: _bytes,
        bytearray: _bytes,
        complex: _complex,
        list: _list,
        tuple: _tagged,
        set: _tagged,
        frozenset: _tagged,
        dict: _dict,
        Counter: _dict,
        OrderedDict: _dict,
        defaultdict: _dict,
        Handle: _handle,
    }
