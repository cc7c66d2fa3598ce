"""A data row -> the sandbox job that judges a program.

A row must be of exactly one kind:

    tests, entry_point[, support]   test code that calls the entry (asserts, or HumanEval's `check`)
    cases, entry_point              [{"args": [...], "kwargs": {...}, "expected": ...}, ...]
    stdin, stdout                   a text each, or equally long lists: one run of the program each

A column that is absent or null does not count; the config may give columns other names.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

from pydantic import ConfigDict

from protocol.errors import RewardError
from reward_workers.registry import missing_column
from reward_workers.sandbox.jobs import IO, Case, Equality, Limits, Result, Sandbox

Row = Mapping[str, object]
Run = Callable[[str], Awaitable[Result]]
"""Judges a program's source."""


@dataclass(frozen=True)
class JobColumns:
    """What the data row calls things; a config may set some of them."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")
    tests: str = "tests"
    cases: str = "cases"
    stdin: str = "stdin"
    stdout: str = "stdout"
    entry: str = "entry_point"
    support: str = "support"


USUAL_NAMES = JobColumns()


def job_of(
    sandbox: Sandbox, names: JobColumns, row: Row, limits: Limits, equality: Equality
) -> Run:
    """The one job that a row describes.

    Raises:
        RewardError: a row of none or several kinds, or with a column that is malformed.
    """
    kinds = {
        "tests": [names.tests],
        "cases": [names.cases],
        "stdio": [names.stdin, names.stdout],
    }
    found = [name for kind in kinds.values() for name in kind if name in row]
    present = [kind for kind, wanted in kinds.items() if any(name in row for name in wanted)]
    if len(present) != 1:
        wanted = f"{names.tests!r}, {names.cases!r}, or {names.stdin!r} and {names.stdout!r}"
        raise RewardError(
            f"found the columns {', '.join(found) or 'none'}, wanted exactly one of {wanted} "
            f"(the data row has: {', '.join(sorted(row)) or 'none'})"
        )
    if present == ["tests"]:
        return _tests(sandbox, names, row, limits)
    if present == ["cases"]:
        return _calls(sandbox, names, row, limits, equality)
    return _stdio(sandbox, names, row, limits)


def text_of(row: Row, name: str) -> str:
    """A column that must be text.

    Raises:
        RewardError: it is absent or something else.
    """
    if name not in row:
        raise missing_column(name, row)
    found = row[name]
    if not isinstance(found, str):
        raise RewardError(f"column {name!r} is {_shown(found)}, wanted text")
    return found


def _tests(sandbox: Sandbox, names: JobColumns, row: Row, limits: Limits) -> Run:
    found = row[names.tests]
    tests = found if isinstance(found, str) else _texts(names.tests, found)
    entry = text_of(row, names.entry)
    support = text_of(row, names.support) if names.support in row else ""
    return lambda code: sandbox.run_tests(
        code, tests=tests, entry=entry, support=support, limits=limits
    )


def _calls(
    sandbox: Sandbox, names: JobColumns, row: Row, limits: Limits, equality: Equality
) -> Run:
    cases = [_case(names.cases, case) for case in _items(names.cases, row[names.cases])]
    entry = text_of(row, names.entry)
    return lambda code: sandbox.run_calls(
        code, entry=entry, cases=cases, limits=limits, equality=equality
    )


def _stdio(sandbox: Sandbox, names: JobColumns, row: Row, limits: Limits) -> Run:
    inputs = _texts(names.stdin, row.get(names.stdin))
    outputs = _texts(names.stdout, row.get(names.stdout))
    if len(inputs) != len(outputs):
        raise RewardError(
            f"column {names.stdin!r} has {len(inputs)} texts and {names.stdout!r} {len(outputs)}, "
            "wanted as many"
        )
    cases = [IO(stdin, stdout) for stdin, stdout in zip(inputs, outputs, strict=True)]
    longest = max((len(text.encode()) for text in outputs), default=0)
    if 2 * longest > limits.output_bytes:  # in powers of two, so that spare workers fit many rows
        limits = replace(limits, output_bytes=1 << (2 * longest).bit_length())
    return lambda code: sandbox.run_stdio(code, cases=cases, limits=limits)


def _case(name: str, found: object) -> Case:
    if not isinstance(found, dict) or not {"args", "expected"} <= set(found) <= _CASE_KEYS:
        raise RewardError(
            f"column {name!r} has the case {_shown(found)}, "
            'wanted {"args": [...], "expected": ...} and perhaps "kwargs": {...}'
        )
    case = cast(dict[str, Any], found)
    args, kwargs = case["args"], case.get("kwargs", {})
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise RewardError(f"column {name!r}: the case {_shown(found)} has no list of arguments")
    return Case(args, case["expected"], kwargs)


_CASE_KEYS = {"args", "kwargs", "expected"}


def _items(name: str, found: object) -> list[object]:
    if isinstance(found, str):
        try:
            found = json.loads(found)
        except (ValueError, RecursionError):
            raise RewardError(f"column {name!r} is {_shown(found)}, which is not JSON") from None
    if not isinstance(found, list) or not found:
        raise RewardError(f"column {name!r} is {_shown(found)}, wanted a list that is not empty")
    return cast(list[object], found)


def _texts(name: str, found: object) -> list[str]:
    if isinstance(found, str):
        return [found]
    if not isinstance(found, list) or not found or not all(isinstance(x, str) for x in found):
        raise RewardError(f"column {name!r} is {_shown(found)}, wanted text or a list of texts")
    return cast(list[str], found)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
