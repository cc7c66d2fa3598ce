"""One program in a pool: how it is asked by its mode, and what came of it."""

import json
from collections.abc import Mapping
from typing import Any

from hostile.program import FACTS, Hostile

from reward_workers.sandbox.jobs import IO, Case, Result, Sandbox


async def judge(sandbox: Sandbox, program: Hostile, facts: Mapping[str, Any]) -> Result:
    """The sandbox's verdict on a program."""
    if program.mode == "calls":
        return await sandbox.run_calls(
            program.code,
            entry="f",
            cases=[Case(filled(args, facts), expected) for args, expected in program.cases],
            limits=program.limits,
            equality=program.equality,
        )
    if program.mode == "stdio":
        inputs = [IO(as_stdin(args, facts), expected) for args, expected in program.cases]
        return await sandbox.run_stdio(program.code, cases=inputs, limits=program.limits)
    return await sandbox.run_tests(
        program.code,
        tests=as_tests(program, facts),
        entry="f",
        support=program.support,
        limits=program.limits,
    )


def filled(args: tuple[Any, ...], facts: Mapping[str, Any]) -> list[Any]:
    """Arguments, with the facts where they are wanted."""
    return [dict(facts) if value is FACTS else value for value in args]


def as_stdin(args: tuple[Any, ...], facts: Mapping[str, Any]) -> str:
    """What a program reads."""
    (text,) = args
    return json.dumps(dict(facts)) if text is FACTS else text


def as_tests(program: Hostile, facts: Mapping[str, Any]) -> str | list[str]:
    """Test code, with the facts where it names them."""
    if isinstance(program.tests, str):
        return program.tests.replace("FACTS", repr(dict(facts)))
    return [line.replace("FACTS", repr(dict(facts))) for line in program.tests]
