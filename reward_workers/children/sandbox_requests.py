"""The sandbox by messages: a reward's child asks, the worker's pool answers.

Expected values travel to the worker, which is trusted, and never to a candidate.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter

from protocol.errors import RewardError
from reward_workers.children.channel import Said
from reward_workers.sandbox.harness.values import decode, encode
from reward_workers.sandbox.jobs import IO, Case, Equality, Limits, Result, Sandbox

MAX_VALUE_BYTES = 64 << 20

_LIMITS = TypeAdapter(Limits)
_EQUALITY = TypeAdapter(Equality)
_RESULT = TypeAdapter(Result)


def calls_request(
    code: str, entry: str, cases: Sequence[Case], limits: Limits, equality: Equality
) -> Said:
    """Message that asks for run_calls."""
    wire = [
        [_wire(list(case.args)), _wire(dict(case.kwargs)), _wire(case.expected)] for case in cases
    ]
    named = {"entry": entry, "cases": wire, "equality": asdict(equality)}
    return {"method": "calls", "code": code, "limits": asdict(limits), **named}


def stdio_request(code: str, cases: Sequence[IO], limits: Limits) -> Said:
    """Message that asks for run_stdio."""
    wire = [[_wire(case.stdin), _wire(case.expected_stdout)] for case in cases]
    return {"method": "stdio", "code": code, "limits": asdict(limits), "cases": wire}


def tests_request(
    code: str, tests: str | Sequence[str], entry: str, support: str, limits: Limits
) -> Said:
    """Message that asks for run_tests."""
    tests = tests if isinstance(tests, str) else list(tests)
    named = {"tests": tests, "entry": entry, "support": support}
    return {"method": "tests", "code": code, "limits": asdict(limits), **named}


async def answer(sandbox: Sandbox, request: Said) -> Said:
    """What the pool says to a request: `{"result": ...}`, or `{"error": ...}` if it was wrong."""
    try:
        return {"result": asdict(await _ask(sandbox, request))}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return {"error": f"{type(error).__name__}: {error}"}


def read_answer(answer: Said) -> Result:
    """Result of an answer.

    Raises:
        RewardError: the request was wrong; the message says what.
    """
    if "error" in answer:
        raise RewardError(f"the sandbox refused: {answer['error']}")
    return _RESULT.validate_python(answer["result"])


async def _ask(sandbox: Sandbox, request: Said) -> Result:
    code, limits = request["code"], _LIMITS.validate_python(request["limits"])
    match request["method"]:
        case "calls":
            return await sandbox.run_calls(
                code,
                entry=request["entry"],
                cases=_cases(request["cases"], lambda a, k, e: Case(a, e, k)),
                limits=limits,
                equality=_EQUALITY.validate_python(request["equality"]),
            )
        case "stdio":
            return await sandbox.run_stdio(code, cases=_cases(request["cases"], IO), limits=limits)
        case "tests":
            return await sandbox.run_tests(
                code,
                tests=request["tests"],
                entry=request["entry"],
                support=request["support"],
                limits=limits,
            )
        case other:
            raise ValueError(f"no method {other!r}")


def _cases(wire: list[list[Any]], make: Callable[..., Any]) -> list[Any]:
    return [make(*(decode(value) for value in case)) for case in wire]


def _wire(value: object) -> Any:  # noqa: ANN401 - msgpack's builtins
    return encode(value, max_bytes=MAX_VALUE_BYTES)
