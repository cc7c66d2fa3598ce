"""Plain values as JSON and back, for both sides of the channel. No pickle, no subclasses.

    None, bool, float, str, list       as JSON has them (1.0 stays apart from 1)
    int                                a number up to 2**53, beyond that {"int": "-0x..."}
    nan, inf, -inf                     {"float": "nan"}
    str with surrogates                {"str": hex of its UTF-8, surrogates passed}
    bytes, bytearray                   {"bytes": hex}
    complex                            {"complex": [real, imaginary]}
    tuple, set, frozenset              {"tuple": [...]}
    dict                               {"dict": [[key, value], ...]}, in its order
    Handle                             {"handle": [number, class name]}, only where it is asked for

The types are exact: a subclass of int is not an int here, or its `__eq__` would judge itself. The
three dicts of `collections` are sent as the dict that they equal. `decode` takes what a candidate
sent: whatever it is given, it returns builtins or raises ValueError, in time linear in its size.
"""

from collections.abc import Callable

from reward_workers.sandbox.harness.decoding import Decoder
from reward_workers.sandbox.harness.encoding import Encoder
from reward_workers.sandbox.harness.plain import MAX_BYTES, Handle, Json, NotPlain, TooLarge, Value

__all__ = ["Handle", "NotPlain", "TooLarge", "decode", "encode", "keep"]


def keep(handle: Handle) -> Handle:
    """For `decode(wire, handle=keep)`: handles are taken, and stay handles."""
    return handle


def encode(
    value: object,
    *,
    otherwise: Callable[[object], Handle | None] | None = None,
    max_bytes: int = MAX_BYTES,
) -> Json:
    """JSON of a plain value.

    Args:
        value: what to send.
        otherwise: is asked for the handle of what is not plain; None from it refuses the value.
        max_bytes: of the JSON, checked from below while encoding, so that `[[x] * 9] * 9 ...` ends
            early; the frame has the last word.

    Raises:
        NotPlain: it holds something of another type, or is too deep; names the place.
        TooLarge: it cannot fit.
    """
    return Encoder(otherwise, max_bytes).encode(value, 0)


def decode(wire: Json, *, handle: Callable[[Handle], Value] | None = None) -> Value:
    """The value that a JSON document stands for, built anew.

    Args:
        wire: what json.loads returned.
        handle: what to make of a handle; without it handles are refused.

    Raises:
        ValueError: it is no value.
    """
    return Decoder(handle).decode(wire, 0)
