"""Exceptions as frames have them: type, message, where. Must outlive hostile exceptions."""

from reward_workers.sandbox.harness.plain import Json, class_name

MAX_MESSAGE = 500
RESERVE_BYTES = 1 << 20
"""Held while foreign code runs and freed when memory is short, so that it can be told."""


def error_of(error: BaseException, where: str) -> dict[str, Json]:
    """ERROR of frames.py for an exception."""
    return {"type": class_name(type(error)), "message": message_of(error), "where": where}


def message_of(error: BaseException) -> str:
    """The exception's own words, cut; others where its `__str__` fails."""
    try:
        return cut(str(error))
    except BaseException:  # noqa: BLE001 - foreign code, which may raise anything
        return "its message cannot be shown"


def cut(text: str) -> str:
    """At most MAX_MESSAGE characters that can be encoded."""
    return str.encode(text, "utf-8", "replace").decode()[:MAX_MESSAGE]
