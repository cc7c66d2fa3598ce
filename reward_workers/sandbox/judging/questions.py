"""What a caller may ask, and what counts as the answer to one call."""

from typing import Any

from reward_workers.sandbox.jobs import Verdict
from reward_workers.sandbox.judging.verdicts import Stopped

MAX_CODE_BYTES = 1 << 20


def check_entry(entry: str) -> None:
    """Returns if `entry` can be called.

    Raises:
        ValueError: it is neither a function's name nor Class.method.
    """
    parts = entry.split(".") if isinstance(entry, str) else []
    if not 1 <= len(parts) <= 2 or not all(part.isidentifier() for part in parts):
        raise ValueError(f"entry is {entry!r}, wanted a function's name or Class.method")


def check_code(code: str) -> Stopped | None:
    """The end of code that is too long to be tried; None where it may be.

    Raises:
        ValueError: it is no str.
    """
    if not isinstance(code, str):
        raise ValueError(f"code is a {type(code).__name__}, wanted a str")
    num_bytes = len(code) if code.isascii() else len(code.encode("utf-8", "surrogatepass"))
    if num_bytes > MAX_CODE_BYTES:
        detail = f"code of {num_bytes} bytes, at most {MAX_CODE_BYTES} are taken"
        return Stopped(Verdict.FAILED, detail)
    return None


def check_answer(answer: dict[str, Any], number: int) -> dict[str, Any]:
    """The answer to question `number`, as it came.

    Raises:
        Stopped: it is the answer to another, or none at all.
    """
    if type(answer.get("id")) is not int or answer["id"] != number:
        raise Stopped(Verdict.CRASHED, "answered another question than it was asked")
    if ("value" in answer) == ("error" in answer):
        raise Stopped(Verdict.CRASHED, "broke the protocol: neither a value nor an error")
    return answer
