"""The share of a problem's tests that the completion's code passes, run in the sandbox.

What is run, and how it is judged, comes from the data row: reward_workers/code_jobs.py.
"""

import asyncio
import re
from typing import Annotated, Literal

from pydantic import Field

from protocol.errors import ConfigError
from reward_workers.code_blocks import answer_part, last_block
from reward_workers.code_jobs import USUAL_NAMES, JobColumns, Run, job_of, text_of
from reward_workers.registry import Judged, checked_by, reward
from reward_workers.sandbox.jobs import Equality, Limits, Result, Sandbox, Verdict

NO_CODE = "no_code"
"""The fact `verdict` of a completion without code: its own fault, so that it scores 0."""
MAX_DETAIL = 200


def _check(pattern: re.Pattern[str] | None = None, **_parameters: object) -> None:
    if pattern is not None and pattern.groups != 1:
        raise ConfigError(f"pattern {pattern.pattern!r} has {pattern.groups} groups, wanted one")


@reward("code_execution")
@checked_by(_check)
async def code_execution(
    completions: list[str],
    *,
    sandbox: Sandbox,
    reward: Literal["all", "fraction"] = "all",
    pattern: re.Pattern[str] | None = None,
    fallback_to_text: bool = False,
    prefix_column: str | None = None,
    column_names: JobColumns = USUAL_NAMES,
    tolerance: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 1e-6,
    cpu_seconds: Annotated[float, Field(gt=0.0, le=600.0)] = 4.0,
    memory_mb: Annotated[int, Field(ge=64, le=65536)] = 512,
    **columns: list[object],
) -> list[Judged]:
    """How many of its tests each completion's code passes.

    The code is the last fenced block that says Python, or else the last that says nothing; a block
    that was closed goes before one that was cut off, and thinking up to `</think>` is passed over.

    Args:
        completions: the sampled texts; one without code gets 0.0.
        sandbox: where the code runs.
        reward: all: 1.0 where everything passes, else 0.0; fraction: the share that passes.
        pattern: its last match's one group is the code, in place of a fenced block.
        fallback_to_text: where no code is found, the whole completion is the code.
        prefix_column: column with source that is put before the code.
        column_names: other names of the columns, such as {tests: test_list, entry: name}.
        tolerance: of floats in cases, relative and absolute; tuples equal lists.
        cpu_seconds: CPU time of one candidate, all of a row's tests together.
        memory_mb: memory of one candidate.
        **columns: the data row's columns.

    Returns:
        None with a status where the sandbox failed. Facts: verdict, passed, total, cpu_seconds,
        wall_seconds, cached.
    """
    limits = Limits(cpu_seconds=cpu_seconds, memory_bytes=memory_mb << 20)
    equality = Equality(tolerance=tolerance, tuples_as_lists=True)
    jobs: list[tuple[Run, str | None]] = []
    for index, completion in enumerate(completions):
        row = {name: values[index] for name, values in columns.items() if values[index] is not None}
        prefix = "" if prefix_column is None else text_of(row, prefix_column) + "\n"
        run = job_of(sandbox, column_names, row, limits, equality)
        code = find_code(completion, pattern, fallback_to_text=fallback_to_text)
        jobs.append((run, None if code is None else prefix + code))
    return list(await asyncio.gather(*(_judge(run, code, reward) for run, code in jobs)))


async def _judge(run: Run, code: str | None, kind: Literal["all", "fraction"]) -> Judged:
    if code is None:
        return Judged(0.0, facts={"verdict": NO_CODE, "passed": 0, "total": 0})
    return _judged(await run(code), kind)


def find_code(
    completion: str, pattern: re.Pattern[str] | None, *, fallback_to_text: bool
) -> str | None:
    """The code that a completion offers, or None."""
    text = answer_part(completion)
    if pattern is not None:
        found = [match[1] for match in pattern.finditer(text) if match[1]]
        code = found[-1] if found else None
    else:
        block = last_block(text, "python")
        code = None if block is None else block.code
    if code is None and fallback_to_text:
        code = text
    return code if code is not None and code.strip() else None


def _judged(result: Result, kind: Literal["all", "fraction"]) -> Judged:
    facts: dict[str, float | int | str] = {
        "verdict": str(result.verdict),
        "passed": result.passed,
        "total": result.total,
        "cpu_seconds": result.cpu_seconds,
        "wall_seconds": result.wall_seconds,
        "cached": int(result.cached),
    }
    if result.verdict is Verdict.SANDBOX_ERROR:
        facts["detail"] = result.detail[:MAX_DETAIL]
        return Judged(None, status="sandbox_error", facts=facts)
    if result.verdict is Verdict.PASSED or kind == "all":
        return Judged(float(result.verdict is Verdict.PASSED), facts=facts)
    # a limit may be exceeded after the last case was passed
    share = min(result.passed, result.total - 1) / result.total if result.total else 0.0
    return Judged(share, facts=facts)
