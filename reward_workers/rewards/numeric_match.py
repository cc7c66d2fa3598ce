"""1 where the last number of the completion is the reference answer's number.

A number is written with an optional sign, ASCII digits with or without commas between thousands,
decimals after a point, and an exponent: 85, -3, +0.5, .5, 1,234.50, $7, 2e-3. A minus after a
letter, a digit or a bracket is an operator or a hyphen, so "10-4" ends in 4. Not read: fractions
("3/4" ends in 4), decimal commas, numbers in words.
"""

import re
from collections import deque
from decimal import Decimal
from typing import Annotated

from pydantic import Field

from reward_workers.registry import reward, values_of

_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)\]])[-+\u2212])?"  # U+2212: the minus of typeset text
    r"[$\u20ac\u00a3]?"
    r"(?P<digits>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
    r"(?P<exponent>[eE][-+]?[0-9]{1,3}(?![0-9]))?",
    re.ASCII,
)


@reward("numeric_match")
def numeric_match(
    completions: list[str],
    *,
    column: str = "answer",
    tolerance: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0,
    **columns: list[object],
) -> list[float | None]:
    """1.0 where the completion's last number equals the reference answer, else 0.0.

    Numbers are compared as decimals, so 2.50 equals 2.5 and long integers keep all their digits.

    Args:
        completions: the sampled texts; one without a number gets 0.0.
        column: data column with the reference answer: a number, text that is one number, or text
            that ends in "#### number" (GSM8K).
        tolerance: largest absolute difference that still counts as equal.
        **columns: the data row's columns.

    Returns:
        None where the reference answer is null or no number: it cannot be judged here.

    Raises:
        RewardError: no such column.
    """
    answers = values_of(column, columns)
    return [
        _compare(completion, _reference(answer), Decimal(str(tolerance)))
        for completion, answer in zip(completions, answers, strict=True)
    ]


def last_number(text: str) -> Decimal | None:
    """Last number in a text, or None where it has none."""
    numbers = deque(_NUMBER.finditer(text), maxlen=1)
    return _value(numbers[0]) if numbers else None


def _compare(completion: str, reference: Decimal | None, tolerance: Decimal) -> float | None:
    if reference is None:
        return None
    found = last_number(completion)
    if found is None:
        return 0.0
    return float(found == reference or abs(found - reference) <= tolerance)


def _reference(answer: object) -> Decimal | None:
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        return None
    text = str(answer).rpartition("####")[2].strip()
    whole = _NUMBER.fullmatch(text.removesuffix("%"))
    return None if whole is None else _value(whole)


def _value(number: re.Match[str]) -> Decimal:
    sign = "-" if number["sign"] in ("-", "\u2212") else ""
    return Decimal(sign + number["digits"].replace(",", "") + (number["exponent"] or ""))
