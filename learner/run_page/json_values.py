"""Values of JSON rows that may hold anything, and JSON of values that may hold anything."""

import json
import math
from typing import Any

from learner.run_folder import finite


def as_number(value: object) -> float | None:
    """A finite number as a float; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def as_whole(value: object) -> int | None:
    """A whole number that JavaScript can hold; None for anything else."""
    is_whole = type(value) is int and abs(value) < 1 << 53
    return value if is_whole else None  # pyright: ignore[reportReturnType]


def as_text(value: object) -> str | None:
    """A string; None for anything else."""
    return value if isinstance(value, str) else None


def to_json(value: object, depth: int = 2) -> str:
    """JSON in ASCII; numbers that are not finite become null, and so does what nests too deep.

    Args:
        value: any.
        depth: objects down to here are written part by part: the encoder holds the interpreter's
            lock until it is done, and another thread may be training.
    """
    if depth and isinstance(value, dict):
        parts = (f"{json.dumps(str(k))}: {to_json(v, depth - 1)}" for k, v in value.items())
        return "{" + ", ".join(parts) + "}"
    try:
        return json.dumps(value, allow_nan=False, default=str)
    except ValueError:
        pass
    try:
        return json.dumps(finite(value), default=str)
    except RecursionError:  # deeper than any of ours
        return "null"


def text_pieces(value: Any) -> list[str]:  # noqa: ANN401 - any JSON value
    """All strings in a prompt: a string itself, or chat messages."""
    pieces: list[str] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            pieces.append(item)
        elif isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
    return pieces


def shown_text(value: object) -> str:
    """A prompt or completion as one text: chat messages one below the other."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(map(_is_message, value)):
        return "\n".join(f"{message['role']}: {message['content']}" for message in value)
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _is_message(value: object) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("role"), str)
        and isinstance(value.get("content"), str)
    )
