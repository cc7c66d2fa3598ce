"""Mode calls: ask for one value after the other, and compare each out here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reward_workers.sandbox.harness import values
from reward_workers.sandbox.harness.plain import shown
from reward_workers.sandbox.jobs import Case, Equality, Result, Verdict
from reward_workers.sandbox.judging.candidate import Candidate
from reward_workers.sandbox.judging.equality import equal
from reward_workers.sandbox.judging.questions import check_answer, check_entry
from reward_workers.sandbox.judging.verdicts import Stopped, Tally, reading_candidate, stopped_by
from reward_workers.sandbox.judging.workers import Workers


@dataclass(frozen=True)
class Calls:
    """A job of mode calls, checked: all values as JSON, ready to be sent."""

    code: str
    entry: str
    cases: tuple[tuple[Any, Any, Any], ...]
    """(args, kwargs, expected) of each, as harness/values.py encodes them."""
    equality: Equality


def prepare_calls(code: str, entry: str, cases: Sequence[Case], equality: Equality) -> Calls:
    """The job of these arguments.

    Raises:
        ValueError: an argument cannot be used; the message names it.
    """
    check_entry(entry)
    if not cases:
        raise ValueError("cases is empty, wanted at least one Case")
    for number, case in enumerate(cases, 1):
        if not isinstance(case, Case) or not isinstance(case.args, list | tuple):
            raise ValueError(f"case {number} is no Case with a list of args")
    if not 0 <= equality.tolerance < float("inf"):
        raise ValueError(f"tolerance is {equality.tolerance!r}, wanted a finite number from 0 up")
    encoded = tuple(_encode(number, case) for number, case in enumerate(cases, 1))
    return Calls(code, entry, encoded, equality)


async def judge_calls(job: Calls, workers: Workers) -> Result:
    """Calls the entry once for each case, in one worker."""
    tally = Tally(len(job.cases))
    async with workers.borrow() as candidate:
        candidate.deliver({"mode": "calls", "code": job.code, "entry": job.entry})
        try:
            await load(candidate)
            await _try_cases(job, candidate, tally)
        except Stopped as stopped:
            tally.end(stopped)
    return tally.result([candidate.spent()], candidate.overrun())


async def load(candidate: Candidate) -> list[str]:
    """Waits until the candidate's code is loaded; returns the names that may be called.

    Raises:
        Stopped: it cannot be loaded.
    """
    answer = await candidate.hear()
    if "error" in answer:
        raise stopped_by(answer["error"]).at("loading the code")
    names = answer.get("loaded")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Stopped(Verdict.CRASHED, "its worker broke the protocol: no list of callables")
    return names


async def _try_cases(job: Calls, candidate: Candidate, tally: Tally) -> None:
    for index, (args, kwargs, expected) in enumerate(job.cases):
        question = {"call": job.entry, "args": args, "kwargs": kwargs, "id": index}
        place = f"case {index + 1}"
        try:
            answer = check_answer(await candidate.ask(question), index)
        except Stopped as stopped:
            raise stopped.at(place) from None
        try:
            _compare(answer, expected, job.equality)
            tally.passed += 1
        except Stopped as stopped:
            tally.fail(stopped.at(place))


def _compare(answer: dict[str, Any], expected: object, equality: Equality) -> None:
    """Returns if the answer is the right one.

    Raises:
        Stopped: it is not; the expected value is not told.
    """
    with reading_candidate():
        if "error" in answer:
            raise stopped_by(answer["error"])
        returned = values.decode(answer["value"])
        if not equal(values.decode(expected), returned, equality):
            raise Stopped(Verdict.FAILED, f"returned {shown(returned)}, wanted another value")


def _encode(number: int, case: Case) -> tuple[Any, Any, Any]:
    encoded: list[Any] = []
    parts = {"args": list(case.args), "kwargs": dict(case.kwargs), "expected": case.expected}
    for name, value in parts.items():
        try:
            encoded.append(values.encode(value))
        except ValueError as error:
            raise ValueError(f"case {number}: {name}: {error}") from None
    if not all(isinstance(key, str) for key in case.kwargs):
        raise ValueError(f"case {number}: kwargs has keys that are no names")
    args, kwargs, expected = encoded
    return args, kwargs, expected
