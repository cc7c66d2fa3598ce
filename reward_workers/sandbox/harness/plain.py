"""What both directions of values.py share: limits, the handle, and safe words on a value."""

from typing import Any, NamedTuple, TypeAlias

Json: TypeAlias = Any
"""What json.loads returns."""
Value: TypeAlias = Any
"""A plain value: builtins of exact types, and handles."""

MAX_DEPTH = 100
MAX_EXACT_INT = 2**53
MAX_INT_BITS = 1 << 20
MAX_HANDLES = 10_000
MAX_CLASS_NAME = 100
MAX_EQUAL_HASHES = 32
MAX_BYTES = 64 << 20

_NAME_OF = type.__dict__["__name__"].__get__


class NotPlain(ValueError):  # noqa: N818 - its name crosses the channel as a type of error
    """A value that cannot be sent."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = ""

    def __str__(self) -> str:
        return f"value{self.path[:200]}: {self.reason}"


class TooLarge(NotPlain):
    """A value that is longer than its frame may be."""


class Handle(NamedTuple):
    """An object that stays in the candidate's process, by its number there."""

    number: int
    class_name: str


def has_surrogates(text: str) -> bool:
    """Whether it holds code points that are no characters, which JSON would pair up."""
    if text.isascii():
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def class_name(kind: type) -> str:
    """Name of a class, whatever its metaclass says; fit to be sent."""
    return ascii(_NAME_OF(kind))[1:-1][:MAX_CLASS_NAME]


def shown(value: Value) -> str:
    """A few words on a value, without calling anything of its own."""
    if type(value) is str:
        return ascii(value[:40])
    if type(value) in (bool, float) or (type(value) is int and value.bit_length() <= 64):
        return repr(value)
    return f"a {class_name(type(value))}"
