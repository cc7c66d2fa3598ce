"""Which answers a reasoning-gym scorer may see: some of them run the answer as Python.

The scorers of the tasks named here call `eval` on the answer, or sympy's `parse_expr`, which does
the same. An answer of theirs must be harmless to evaluate, or it is wrong without being looked at.
tests/reward_workers/rewards/test_reasoning_gym.py tries every task with answers that act.
"""

import ast
import re
from collections.abc import Mapping
from typing import Any

EVALUATED = frozenset({"binary_matrix", "n_queens", "spiral_matrix", "string_insertion"})
"""The answer is evaluated as a list of lists or of characters."""

ARITHMETIC = frozenset({"countdown", "puzzle24"})
"""The answer is evaluated as an expression of whole numbers."""

ALGEBRA = frozenset({"intermediate_integration", "polynomial_multiplication", "simple_integration"})
"""The answer is evaluated as an expression of the task's variables."""

FUNCTIONS = frozenset(
    {"C", "E", "pi", "sqrt", "exp", "log", "sin", "cos", "tan", "asin", "acos", "atan"}
)
"""And constants. Not `Integral`: the integral of the integrand would always be right."""

MAX_EVALUATED = 2_000
_INERT = re.compile(r"[\w\s\[\],.'\"-]*")
_SYMBOLS = re.compile(r"[0-9\s+\-*/().,]*")
_NAME = re.compile(r"[A-Za-z_]\w*")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")


def may_be_scored(task: str, answer: str, metadata: Mapping[str, Any]) -> bool:
    """Whether a task's scorer can be given this answer."""
    if task in EVALUATED:
        return len(answer) <= MAX_EVALUATED and (_is_inert(answer) or _is_literal(answer))
    if task in ARITHMETIC:
        return _is_formula(answer, frozenset())
    if task in ALGEBRA:
        variables = metadata.get("variables") or [metadata.get("variable")]
        return _is_formula(answer, FUNCTIONS | {str(name) for name in variables})
    return True


def _is_inert(answer: str) -> bool:
    """Names, numbers, texts and lists: nothing is called, and nothing is repeated."""
    return (
        answer.isascii()
        and _INERT.fullmatch(answer) is not None
        and "for" not in _NAME.findall(answer)
    )


def _is_literal(answer: str) -> bool:
    try:
        ast.literal_eval(answer)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return False
    return True


def _is_formula(answer: str, names: frozenset[str]) -> bool:
    """Numbers, operators, parentheses and known names; no point but a decimal one."""
    if len(answer) > MAX_EVALUATED or not answer.isascii():
        return False
    if not set(_NAME.findall(answer)) <= names:
        return False
    rest = _NUMBER.sub("0", _NAME.sub("0", answer))
    return "." not in rest and _SYMBOLS.fullmatch(rest) is not None
