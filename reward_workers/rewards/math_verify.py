r"""1 where the completion's answer equals the reference answer as mathematics (math-verify).

The library reads LaTeX and plain expressions and compares them by sympy, so that 1/2, 0.5 and
`\frac{1}{2}` are equal. What a completion can gain by more than one answer is taken from it here:
only one place of it is read, and a set or interval that merely holds the answer is not equal to it.
What the library itself allows stays: 3 % equals 3, and of `x = 5 = 3` the last side counts.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import Field

from protocol.errors import ConfigError
from reward_workers.alarm import OutOfTime, time_limit
from reward_workers.code_blocks import answer_part
from reward_workers.registry import checked_by, reward, values_of

MAX_READ = 10_000
"""Characters at a completion's end that are read; the library's patterns are slow on long texts."""
MAX_BOXED = 1_000
_BOXED = r"\boxed{"


def _check(**_parameters: object) -> None:
    if find_spec("math_verify") is None:
        raise ConfigError("it needs the package math-verify: pip install -e '.[rewards]'")


@reward("math_verify")
@checked_by(_check)
def math_verify(
    completions: list[str],
    *,
    column: str = "answer",
    read: Literal["last_boxed", "boxed_or_text", "text"] = "boxed_or_text",
    float_digits: Annotated[int, Field(ge=1, le=15)] = 6,
    max_seconds: Annotated[int, Field(ge=1, le=60)] = 5,
    **columns: list[object],
) -> list[float | None]:
    r"""1.0 where the completion's answer equals the reference answer, else 0.0.

    Must run in a process's main thread, where SIGALRM can end what takes too long.

    Args:
        completions: the sampled texts; thinking up to `</think>` is passed over.
        column: data column with the reference answer: LaTeX, a number, or text that ends in
            "#### number" (GSM8K).
        read: last_boxed: what the last `\boxed{}` holds, and nothing else; boxed_or_text: the
            same, or the library's choice from the text where nothing is boxed (its last answer);
            text: always the library's choice, where several boxes make one set.
        float_digits: decimals to which a decimal fraction is compared.
        max_seconds: for reading, and again for comparing, one answer; one that takes longer
            (9^{9^9}) gets 0.0.
        **columns: the data row's columns.

    Returns:
        None where the reference answer is null or cannot be read.

    Raises:
        RewardError: no such column, or not in the main thread.

    Source:
        Math-Verify, https://github.com/huggingface/Math-Verify. Unlike its metric, texts that it
        cannot read as mathematics are not compared letter by letter (use exact_match).
    """
    answers = values_of(column, columns)
    with _quiet():
        golds = [_gold(answer, max_seconds) for answer in answers]
        return [
            _compare(gold, _candidate(completion, read), float_digits, max_seconds)
            if gold
            else None
            for completion, gold in zip(completions, golds, strict=True)
        ]


def last_boxed(text: str) -> str | None:
    r"""What the last `\boxed{...}` holds; None where there is none or its brace is not closed."""
    began = text.rfind(_BOXED)
    if began < 0:
        return None
    depth, escaped = 1, False
    start = began + len(_BOXED)
    for index, character in enumerate(text[start : start + MAX_BOXED + 1], start):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character in "{}":
            depth += 1 if character == "{" else -1
            if depth == 0:
                return text[start:index]
    return None


def _candidate(completion: str, read: str) -> str | None:
    text = answer_part(completion)
    if read == "text":
        return text[-MAX_READ:]
    if _BOXED in text:
        content = last_boxed(text)
        return None if content is None or not content.strip() else f"\\boxed{{{content}}}"
    return None if read == "last_boxed" else text[-MAX_READ:]


def _gold(answer: object, max_seconds: int) -> list[Any]:
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        return []
    if isinstance(answer, float):
        answer = format(Decimal(str(answer)), "f")  # 1e-07 would be read as a product with e
    text = str(answer).rpartition("####")[2].strip()
    if not text:
        return []
    if "$" not in text and "\\boxed" not in text:
        text = f"${text}$"  # or "3x + 1" would be read as the number 1
    return _parse(text, max_seconds)


def _compare(gold: list[Any], candidate: str | None, digits: int, max_seconds: int) -> float:
    from math_verify import verify

    found = [] if candidate is None else _parse(candidate, max_seconds)
    try:
        with time_limit(max_seconds):
            return float(verify(gold, found, float_rounding=digits, timeout_seconds=None))
    except OutOfTime:
        return 0.0


def _parse(text: str, max_seconds: int) -> list[Any]:
    # The library's own limit rings once, and code that swallows that ring runs on for ever.
    from math_verify import parse

    try:
        with time_limit(max_seconds):
            return parse(text, fallback_mode="no_fallback", parsing_timeout=0)
    except OutOfTime:
        return []


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the library's log lines on answers that take too long."""
    logger = logging.getLogger("math_verify")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
