"""Every family's reference solution passes its tasks in the real sandbox; cheats do not."""

import asyncio

import pytest

from learner.data.code_families import FAMILIES
from learner.data.code_tasks import code_task_rows
from reward_workers.sandbox import SandboxPool, Verdict
from reward_workers.sandbox.jobs import Case

ROWS = {
    row["family"]: row for _, row in code_task_rows("code_tasks", {"solution": "1"}, "train", 0)
}
CHEATS = (
    "def {entry}(x):\n    return x\n",
    "def {entry}(x):\n    return True\n",
    "def {entry}(x):\n    return 0\n",
    "def {entry}(x):\n    return {first!r}\n",
    "def other(x):\n    return x\n",
)


async def judge_all(codes):
    async with SandboxPool(slots=2, warm=4) as pool:

        async def judge(row, code):
            cases = [Case(case["args"], case["expected"]) for case in row["cases"]]
            return await pool.run_calls(code, entry=row["entry_point"], cases=cases)

        results = await asyncio.gather(*(judge(row, code) for row, code in codes))
        return [result.verdict for result in results]


def test_each_family_has_tasks():
    assert ROWS.keys() == {family.name for family in FAMILIES}


async def test_every_reference_solution_passes():
    verdicts = await judge_all([(row, row["canonical_solution"]) for row in ROWS.values()])
    failed = [name for name, found in zip(ROWS, verdicts, strict=True) if found != Verdict.PASSED]
    assert failed == []


@pytest.mark.parametrize("cheat", CHEATS)
async def test_no_cheat_passes(cheat):
    codes = [
        (row, cheat.format(entry=row["entry_point"], first=row["cases"][0]["expected"]))
        for row in ROWS.values()
    ]
    verdicts = await judge_all(codes)
    assert [
        name for name, found in zip(ROWS, verdicts, strict=True) if found == Verdict.PASSED
    ] == []
