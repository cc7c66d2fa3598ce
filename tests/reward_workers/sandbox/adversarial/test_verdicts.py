"""Every hostile program gets the verdict that it must get: never a pass that it did not earn."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hostile.canaries import damage
from hostile.catalogue import PROGRAMS, REPRESENTATIVES
from hostile.program import Hostile
from hostile.running import run_all

from reward_workers.sandbox.jobs import Verdict

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def results(request, facts, selected):
    programs = selected(request, "test_a_program_gets_its_verdict", PROGRAMS)
    return asyncio.run(run_all(programs, facts))


@pytest.fixture(scope="module")
def fresh_results(request, facts, selected):
    test = "test_a_program_gets_its_verdict_in_an_interpreter_of_its_own"
    programs = selected(request, test, REPRESENTATIVES)
    return asyncio.run(run_all(programs, facts, "fresh"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_gets_its_verdict(name: str, results):
    assert results[name].verdict in PROGRAMS[name].verdicts, results[name].detail


@pytest.mark.parametrize("name", REPRESENTATIVES)
def test_a_program_gets_its_verdict_in_an_interpreter_of_its_own(name: str, fresh_results):
    result = fresh_results[name]
    assert result.verdict in REPRESENTATIVES[name].verdicts, result.detail


def test_no_program_has_done_damage(facts, results):
    assert damage(facts) == []


def test_no_program_causes_a_fault_of_the_sandbox(results):
    faults = [name for name, r in results.items() if r.verdict is Verdict.SANDBOX_ERROR]
    assert faults == []


def test_a_pass_is_expected_only_where_it_is_earned():
    for name, program in PROGRAMS.items():
        assert Verdict.SANDBOX_ERROR not in program.verdicts, name
        assert Verdict.PASSED not in program.verdicts or len(program.verdicts) == 1, name


def test_programs_are_programs(broken_on_purpose):
    """One that does not compile would be stopped for that alone."""
    broken = {name for name, program in PROGRAMS.items() if not _compiles(program)}
    assert broken == broken_on_purpose


@pytest.fixture
def broken_on_purpose() -> set[str]:
    names = ("syntax_error", "null_in_the_source", "surrogate_in_the_source", "nested_source")
    return {f"crashes/{name}" for name in (*names, "deep_source")}


def _compiles(program: Hostile) -> bool:
    tests = [program.tests] if isinstance(program.tests, str) else program.tests
    try:
        for source in (program.code, program.support, *tests):
            compile(source, "candidate.py", "exec")
    except (SyntaxError, MemoryError, ValueError, RecursionError):
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="already no root")
def test_verdicts_are_the_same_for_an_ordinary_user(run_as_nobody):
    """A few of every family; `make soak` runs them all."""
    soak = os.environ.get("CONTROLS") == "all"
    command = [sys.executable, str(HERE / "suite.py"), "--json", "-"]
    ended = run_as_nobody([*command, *([] if soak else ["--few"])], timeout=400)
    assert ended.returncode == 0, ended.stderr
    (verdicts,) = json.loads(ended.stdout)["rounds"]
    assert set(verdicts) == set(PROGRAMS if soak else REPRESENTATIVES)


@pytest.mark.slow
def test_a_busy_machine_changes_no_verdict():
    """Beside four busy processes a CPU: a few of every family; `make soak` runs them all."""
    command = [sys.executable, str(HERE / "suite.py"), "--few", "--load", "4"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert ended.returncode == 0, ended.stderr
