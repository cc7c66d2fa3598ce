"""Mode stdio: run the program once for each case, and compare what it printed out here."""

from collections.abc import Sequence
from dataclasses import dataclass

from reward_workers.sandbox.backend import Ended
from reward_workers.sandbox.jobs import IO, Result, Verdict
from reward_workers.sandbox.judging.candidate import Candidate
from reward_workers.sandbox.judging.verdicts import Stopped, Tally, stopped_by
from reward_workers.sandbox.judging.workers import Workers


@dataclass(frozen=True)
class Program:
    """One case of mode stdio."""

    code: str
    stdin: str
    expected_lines: tuple[bytes, ...]


def prepare_stdio(code: str, cases: Sequence[IO]) -> list[Program]:
    """The jobs of these arguments, one for each case.

    Raises:
        ValueError: an argument cannot be used; the message names it.
    """
    if not cases:
        raise ValueError("cases is empty, wanted at least one IO")
    programs: list[Program] = []
    for number, case in enumerate(cases, 1):
        if not isinstance(case, IO) or not all(
            isinstance(text, str) for text in (case.stdin, case.expected_stdout)
        ):
            raise ValueError(f"case {number} is no IO of two strings")
        try:
            expected = case.expected_stdout.encode()
            case.stdin.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"case {number}: no text: {error}") from None
        programs.append(Program(code, case.stdin, tuple(printed_lines(expected))))
    return programs


async def judge_stdio(program: Program, workers: Workers) -> Result:
    """Runs the program once, in a worker of its own."""
    tally = Tally(1)
    async with workers.borrow() as candidate:
        candidate.deliver({"mode": "stdio", "code": program.code, "stdin": program.stdin})
        try:
            await _run(program, candidate)
            tally.passed += 1
        except Stopped as stopped:
            tally.end(stopped)
    return tally.result([candidate.spent()], candidate.overrun())


def sum_up(results: Sequence[Result]) -> Result:
    """One result of the results of all cases, in their order.

    A sandbox error or a timeout is told before the first other fault: it may be gone next time.
    """
    order = (Verdict.SANDBOX_ERROR, Verdict.TIMEOUT)
    faults = [(n, r) for n, r in enumerate(results, 1) if r.verdict is not Verdict.PASSED]
    faults.sort(key=lambda fault: order.index(fault[1].verdict) if fault[1].verdict in order else 2)
    number, first = faults[0] if faults else (0, results[0])
    return Result(
        first.verdict,
        sum(result.passed for result in results),
        len(results),
        f"case {number}: {first.detail}" if faults else "",
        cpu_seconds=sum(result.cpu_seconds for result in results),
        wall_seconds=sum(result.wall_seconds for result in results),
        peak_bytes=max(result.peak_bytes for result in results),
    )


def printed_lines(text: bytes) -> list[bytes]:
    """Lines without trailing white space, and without the empty ones at the end."""
    lines = [line.rstrip() for line in text.split(b"\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


async def _run(program: Program, candidate: Candidate) -> None:
    """Returns if the program ended well and printed what was wanted.

    Raises:
        Stopped: it did not.
    """
    message, end = await candidate.hear_end()
    if message is not None:
        stopped = stopped_by(message.get("error"))
        if not stopped.detail.startswith("SystemExit"):
            raise stopped
    _check_end(candidate, end)
    printed = printed_lines(candidate.stdout)
    if printed != list(program.expected_lines):
        raise Stopped(Verdict.FAILED, _difference(printed, program.expected_lines))


def _check_end(candidate: Candidate, end: Ended) -> None:
    if end.exit_code == 0:
        return
    why = candidate.why_ended(end)
    raise Stopped(why.verdict, f"{why.detail}: {candidate.last_words}".rstrip(": "))


def _difference(printed: Sequence[bytes], expected: Sequence[bytes]) -> str:
    """Where the outputs part; what was expected is not told."""
    same = [a == b for a, b in zip(printed, expected, strict=False)]
    if False not in same:
        few = "too few" if len(printed) < len(expected) else "too many"
        return f"printed {few} lines: {len(printed)}"
    line = same.index(False)
    found = printed[line][:80].decode(errors="replace")
    return f"line {line + 1}: printed {found!r}, wanted another text"
