"""Mode tests: test code in a second worker, where the candidate is a proxy.

The two workers never meet: each request and each answer is read here, and only what could be read
goes on, built anew. A verdict counts only on the tester's channel.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reward_workers.sandbox.harness import values
from reward_workers.sandbox.jobs import Result, Verdict
from reward_workers.sandbox.judging.calls import load
from reward_workers.sandbox.judging.candidate import Candidate
from reward_workers.sandbox.judging.questions import check_answer, check_entry
from reward_workers.sandbox.judging.verdicts import (
    Stopped,
    Tally,
    plain_error,
    reading_candidate,
    stopped_by,
)
from reward_workers.sandbox.judging.workers import Workers

FORMS = ("iterator", "endless", "coroutine")


@dataclass(frozen=True)
class Tests:
    """A job of mode tests."""

    code: str
    tests: tuple[str, ...]
    support: str
    entry: str


def prepare_tests(code: str, tests: str | Sequence[str], entry: str, support: str) -> Tests:
    """The job of these arguments.

    Raises:
        ValueError: an argument cannot be used; the message names it.
    """
    check_entry(entry)
    if not isinstance(tests, str | list | tuple):
        raise ValueError(f"tests is a {type(tests).__name__}, wanted str or a list of them")
    sources = (tests,) if isinstance(tests, str) else tuple(tests)
    if not all(isinstance(source, str) for source in (*sources, support)):
        raise ValueError("tests and support must be str, or tests a sequence of them")
    if not sources or not all(source.strip() for source in sources):
        raise ValueError("tests is empty, wanted test code")
    for number, source in enumerate(sources, 1):
        _check_source(f"test {number}", source)
    _check_source("support", support)
    return Tests(code, sources, support, entry)


def _check_source(what: str, source: str) -> None:
    """Refuse what is no Python: the data set's fault, which no candidate should pay for."""
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(source, what, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"{what} is no Python: {error}") from None


async def judge_tests(job: Tests, workers: Workers) -> Result:
    """Loads the candidate, then runs the tests against its proxy."""
    tally = Tally(len(job.tests))
    spent = []
    async with workers.borrow() as candidate:
        candidate.deliver({"mode": "calls", "code": job.code, "entry": job.entry, "handles": True})
        try:
            callables = await load(candidate)
        except Stopped as stopped:
            tally.end(stopped)
        else:
            async with workers.borrow() as tester:
                tester.deliver(_testers_job(job, callables))
                await _Relay(candidate, tester, tally).run()
            spent.append(tester.spent())
            if stopped := tester.overrun():
                tally.end(stopped.at("the tests"))
    return tally.result([candidate.spent(), *spent], candidate.overrun())


def _testers_job(job: Tests, callables: list[str]) -> dict[str, Any]:
    return {
        "mode": "tester",
        "tests": list(job.tests),
        "support": job.support,
        "entry": job.entry,
        "callables": [name for name in callables if name.isidentifier()],
    }


class _Relay:
    """Carries requests to the candidate and answers to the tester until the tests are done."""

    def __init__(self, candidate: Candidate, tester: Candidate, tally: Tally) -> None:
        self._candidate = candidate
        self._tester = tester
        self._tally = tally
        self._num_requests = 0
        self._worst: Stopped | None = None

    async def run(self) -> None:
        """Runs all tests, and tallies them."""
        try:
            while True:
                message = await self._hear_tester()
                if "done" in message or "error" in message:
                    self._finish(message)
                    return
                self._tester.say(await self._answer(message))
        except Stopped as stopped:
            self._tally.end(stopped)

    async def _hear_tester(self) -> dict[str, Any]:
        try:
            return await self._tester.hear()
        except Stopped as stopped:
            raise stopped.at("the tests") from None

    async def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        number = self._num_requests
        self._num_requests += 1
        with reading_candidate():
            request = plain_request(message, number)
        answer = check_answer(await self._candidate.ask(request), number)
        if "error" in answer:
            stopped = stopped_by(answer["error"])
            if stopped.verdict is not Verdict.FAILED:
                self._worst = self._worst or stopped
        with reading_candidate():
            return plain_answer(answer, number)

    def _finish(self, message: dict[str, Any]) -> None:
        if "error" in message:
            detail = stopped_by(message["error"]).detail
            raise Stopped(Verdict.FAILED, f"the tests could not be loaded: {detail}")
        outcomes = _outcomes(message["done"])
        tally = self._tally
        tally.total = max(len(outcomes), 1)
        tally.passed = sum(ok for ok, _ in outcomes)
        for number, (ok, detail) in enumerate(outcomes, 1):
            if not ok:
                tally.fail(self._worst or Stopped(Verdict.FAILED, f"test {number}: {detail}"))
        if self._num_requests == 0 or not outcomes:
            tally.passed = 0
            tally.fail(Stopped(Verdict.FAILED, "the tests never called the candidate"))


def plain_request(message: dict[str, Any], number: int) -> dict[str, Any]:
    """A tester's request, built anew of its known fields.

    Raises:
        Stopped: it is none.
        ValueError: a value in it is none.
    """
    if type(message.get("id")) is not int or message["id"] != number:
        raise Stopped(Verdict.CRASHED, "the tests asked out of turn")
    if "call" in message:
        return {
            "call": _target(message["call"]),
            "args": _again(message["args"]),
            "kwargs": _again(message["kwargs"]),
            "id": number,
        }
    of = _target(message["of"])
    if "attribute" in message:
        return {"attribute": _text(message["attribute"]), "of": of, "id": number}
    name, value = _text(message["assign"]), _again(message["value"])
    return {"assign": name, "of": of, "value": value, "id": number}


def plain_answer(answer: dict[str, Any], number: int) -> dict[str, Any]:
    """A candidate's answer, built anew of its known fields.

    Raises:
        Stopped: it is none.
        ValueError: a value in it is none.
    """
    if "error" in answer:
        return {"error": plain_error(answer["error"]), "id": number}
    plain: dict[str, Any] = {"value": _again(answer["value"]), "id": number}
    if "args" in answer:
        plain["args"] = _again(answer["args"])
    if "form" in answer:
        if answer["form"] not in FORMS:
            raise Stopped(Verdict.CRASHED, "broke the protocol: a value of no known form")
        plain["form"] = answer["form"]
    return plain


def _again(wire: object) -> object:
    return values.encode(values.decode(wire, handle=values.keep))


def _target(target: object) -> str | int:
    if type(target) is int and 0 <= target <= 2**31:
        return target
    return _text(target)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a {type(value).__name__}, wanted a name")
    return value


def _outcomes(done: list[dict[str, object]]) -> list[tuple[bool, str]]:
    with reading_candidate():
        return [(each["ok"] is True, str(each["detail"])) for each in done]
