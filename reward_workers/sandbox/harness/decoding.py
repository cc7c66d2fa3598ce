"""JSON to plain values, trusting nothing; see values.py for the forms."""

import binascii
import math
import re
from collections import Counter
from collections.abc import Callable
from typing import ClassVar

from reward_workers.sandbox.harness.plain import (
    MAX_CLASS_NAME,
    MAX_DEPTH,
    MAX_EQUAL_HASHES,
    MAX_EXACT_INT,
    MAX_HANDLES,
    MAX_INT_BITS,
    Handle,
    Json,
    Value,
    has_surrogates,
    shown,
)

_HEX_INT = re.compile(r"-?0x[1-9a-f][0-9a-f]*")


class Decoder:
    """One document on its way in: what becomes of its handles."""

    def __init__(self, handle: Callable[[Handle], Value] | None) -> None:
        self._make = handle

    def decode(self, wire: Json, depth: int) -> Value:
        """The value, or ValueError."""
        if depth > MAX_DEPTH:
            raise ValueError(f"deeper than {MAX_DEPTH}")
        kind = type(wire)
        if wire is None or kind is bool:
            return wire
        if kind is int and -MAX_EXACT_INT <= wire <= MAX_EXACT_INT:
            return wire
        if kind is float and math.isfinite(wire):
            return wire
        if kind is str and not has_surrogates(wire):
            return wire
        if kind is list:
            return self._items(wire, depth)
        if kind is dict and len(wire) == 1:
            ((tag, body),) = wire.items()
            if type(tag) is str and tag in self._FORMS:
                return self._FORMS[tag](self, body, depth)
        raise ValueError(f"no value: {shown(wire)}")

    def _items(self, body: Json, depth: int) -> list[Value]:
        return [self.decode(item, depth + 1) for item in _typed(body, list)]

    def _int(self, body: Json, depth: int) -> int:
        digits = _typed(body, str)
        if len(digits) > MAX_INT_BITS // 4 + 3 or not _HEX_INT.fullmatch(digits):
            raise ValueError("no hexadecimal number, or one that is too long")
        value = int(digits, 16)
        if -MAX_EXACT_INT <= value <= MAX_EXACT_INT:
            raise ValueError("a small int in the form of a big one")
        return value

    def _float(self, body: Json, depth: int) -> float:
        if _typed(body, str) not in ("nan", "inf", "-inf"):
            raise ValueError("no number that is not finite")
        return float(body)

    def _str(self, body: Json, depth: int) -> str:
        return _unhex(body).decode("utf-8", "surrogatepass")

    def _bytes(self, body: Json, depth: int) -> bytes:
        return _unhex(body)

    def _bytearray(self, body: Json, depth: int) -> bytearray:
        return bytearray(_unhex(body))

    def _complex(self, body: Json, depth: int) -> complex:
        real, imaginary = (self.decode(part, depth + 1) for part in _pair(body))
        return complex(_typed(real, float), _typed(imaginary, float))

    def _tuple(self, body: Json, depth: int) -> tuple[Value, ...]:
        return tuple(self._items(body, depth))

    def _set(self, body: Json, depth: int) -> set[Value]:
        return set(_distinct(self._items(body, depth)))

    def _frozenset(self, body: Json, depth: int) -> frozenset[Value]:
        return frozenset(_distinct(self._items(body, depth)))

    def _dict(self, body: Json, depth: int) -> dict[Value, Value]:
        pairs = [_pair(pair) for pair in _typed(body, list)]
        keys = _distinct([self.decode(key, depth + 1) for key, _ in pairs])
        return dict(zip(keys, (self.decode(item, depth + 1) for _, item in pairs), strict=True))

    def _handle(self, body: Json, depth: int) -> Value:
        number, class_name = _pair(body)
        if self._make is None:
            raise ValueError("a handle, where none may be")
        if not 0 <= _typed(number, int) < MAX_HANDLES:
            raise ValueError("a handle's number that was never given")
        if len(_typed(class_name, str)) > MAX_CLASS_NAME or has_surrogates(class_name):
            raise ValueError("no class name")
        return self._make(Handle(number, class_name))

    _FORMS: ClassVar[dict[str, Callable[..., Value]]] = {
        "int": _int,
        "float": _float,
        "str": _str,
        "bytes": _bytes,
        "bytearray": _bytearray,
        "complex": _complex,
        "tuple": _tuple,
        "set": _set,
        "frozenset": _frozenset,
        "dict": _dict,
        "handle": _handle,
    }


def _typed(body: Json, kind: type) -> Value:
    if type(body) is not kind:
        raise ValueError(f"a {type(body).__name__}, wanted a {kind.__name__}")
    return body


def _pair(body: Json) -> list[Json]:
    if len(_typed(body, list)) != 2:
        raise ValueError(f"a list of {len(body)}, wanted a pair")
    return body


def _unhex(body: Json) -> bytes:
    return binascii.unhexlify(_typed(body, str))


def _distinct(members: list[Value]) -> list[Value]:
    """The members, fit for a set or as keys.

    Many members with one hash (ints that differ by 2**61 - 1) make a set of them quadratic.
    """
    if not members:
        return members
    try:
        if len(members) > MAX_EQUAL_HASHES:
            most = max(Counter(map(hash, members)).values())
            if most > MAX_EQUAL_HASHES:
                raise ValueError(f"{most} members with one hash")
        num_distinct = len(set(members))
    except TypeError:
        raise ValueError("a member that cannot be hashed") from None
    if num_distinct != len(members):
        raise ValueError("a member that occurs twice")
    return members
