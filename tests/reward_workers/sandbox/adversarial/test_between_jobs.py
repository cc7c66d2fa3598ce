"""What one program leaves behind, no other program finds."""

import asyncio
import subprocess
import sys

import pytest
from hostile.between_jobs import PAIRS
from hostile.judging import judge
from hostile.program import SMALL

from reward_workers.sandbox.jobs import Verdict
from reward_workers.sandbox.pool import SandboxPool

NAMES = [name for name, _, _ in PAIRS]


@pytest.fixture(scope="module")
def results(facts):
    async def run():
        found = {}
        async with SandboxPool(slots=1, warm=1, limits=SMALL) as pool:
            for name, first, second in PAIRS:
                left = await judge(pool, first, facts)
                found[name] = (left, await judge(pool, second, facts))
        return found

    return asyncio.run(run())


@pytest.mark.parametrize("name", NAMES)
def test_what_a_program_leaves_is_not_found_by_the_next(name: str, results):
    left, found = results[name]
    assert left.verdict is Verdict.PASSED, left.detail
    assert found.verdict is Verdict.FAILED, found.detail


@pytest.mark.parametrize(("name", "first", "second"), PAIRS, ids=NAMES)
def test_in_one_process_it_is_found(name: str, first, second, tmp_path):
    code = f"exec({first.code!r})\nexec({second.code!r})\nassert f(0) == 'escaped'"
    environment = {"TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
