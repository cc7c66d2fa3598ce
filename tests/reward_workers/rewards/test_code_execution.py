import re
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from protocol.config import RewardConfig
from protocol.errors import ConfigError, RewardError
from reward_workers.binding import bind_rewards
from reward_workers.code_jobs import JobColumns
from reward_workers.registry import Judged
from reward_workers.rewards.code_execution import code_execution, find_code
from reward_workers.sandbox import SandboxPool
from reward_workers.sandbox.jobs import IO, Case, Equality, Limits, Result, Verdict


@dataclass
class RecordingSandbox:
    """Answers every job alike and keeps what it was asked."""

    result: Result = field(default_factory=lambda: Result(Verdict.PASSED, 2, 2, cpu_seconds=0.5))
    jobs: list[dict[str, Any]] = field(default_factory=list)

    def _answer(self, mode: str, code: str, asked: dict[str, Any]) -> Result:
        self.jobs.append({"mode": mode, "code": code, **asked})
        return self.result

    async def run_calls(self, code: str, **asked: Any) -> Result:
        return self._answer("calls", code, asked)

    async def run_stdio(self, code: str, **asked: Any) -> Result:
        return self._answer("stdio", code, asked)

    async def run_tests(self, code: str, **asked: Any) -> Result:
        return self._answer("tests", code, asked)


async def score(completions, sandbox=None, **arguments) -> list[Judged]:
    given = RecordingSandbox() if sandbox is None else sandbox
    return await cast(Any, code_execution)(completions, sandbox=given, **arguments)


def fenced(code):
    return f"Here:\n```python\n{code}\n```\nDone."


TESTS: dict[str, Any] = {"tests": ["assert f(1) == 1"], "entry_point": ["f"]}


async def test_tests_run_with_their_entry_and_support():
    sandbox = RecordingSandbox()
    columns = {"tests": ["assert f(1)", ["a", "b"]], "entry_point": ["f", "C.g"]}
    await score([fenced("x = 1")] * 2, sandbox, **columns, support=["h = 1", None])
    asked = {"mode": "tests", "code": "x = 1\n", "limits": Limits()}
    assert sandbox.jobs == [
        {**asked, "tests": "assert f(1)", "entry": "f", "support": "h = 1"},
        {**asked, "tests": ["a", "b"], "entry": "C.g", "support": ""},
    ]


async def test_cases_become_calls():
    sandbox = RecordingSandbox()
    cases = [
        [{"args": [1, [2]], "expected": 3}, {"args": [], "kwargs": {"x": 1}, "expected": None}],
        '[{"args": [1], "expected": 2}]',
    ]
    await score([fenced("x = 1")] * 2, sandbox, cases=cases, entry_point=["f", "f"], tolerance=0.5)
    assert [job["cases"] for job in sandbox.jobs] == [
        [Case([1, [2]], 3), Case([], None, {"x": 1})],
        [Case([1], 2)],
    ]
    assert sandbox.jobs[0]["equality"] == Equality(tolerance=0.5, tuples_as_lists=True)
    assert sandbox.jobs[0]["entry"] == "f"


async def test_stdin_and_stdout_become_runs_of_the_program():
    sandbox = RecordingSandbox()
    await score([fenced("x")] * 2, sandbox, stdin=["1", ["1", "2"]], stdout=["a", ["a", "b"]])
    assert [job["cases"] for job in sandbox.jobs] == [[IO("1", "a")], [IO("1", "a"), IO("2", "b")]]


async def test_the_limits_come_from_the_config():
    sandbox = RecordingSandbox()
    await score([fenced("x")], sandbox, **TESTS, cpu_seconds=1.5, memory_mb=256)
    assert sandbox.jobs[0]["limits"] == Limits(cpu_seconds=1.5, memory_bytes=256 << 20)


async def test_columns_can_have_other_names():
    sandbox = RecordingSandbox()
    names = JobColumns(tests="test_list", entry="fn", support="setup")
    columns: dict[str, Any] = {"test_list": [["assert f()"]], "fn": ["f"], "setup": ["import re"]}
    await score([fenced("x")], sandbox, column_names=names, **columns)
    assert sandbox.jobs[0]["tests"] == ["assert f()"]
    assert sandbox.jobs[0]["support"] == "import re"


def test_the_config_names_columns_by_what_they_hold():
    def bind(names):
        config = {"name": "code_execution", "column_names": names}
        return bind_rewards([RewardConfig.model_validate(config)])

    (bound,) = bind({"tests": "test_list"})
    assert bound.parameters["column_names"] == JobColumns(tests="test_list")
    with pytest.raises(ConfigError, match="column_names"):
        bind({"test": "test_list"})


async def test_a_prefix_stands_before_the_code():
    sandbox = RecordingSandbox()
    arguments = {"prefix_column": "head", "fallback_to_text": True}
    await score(["    return x\n"], sandbox, **TESTS, **arguments, head=["def f(x):"])
    assert sandbox.jobs[0]["code"] == "def f(x):\n    return x\n"


@pytest.mark.parametrize(
    ("completion", "code"),
    [
        (fenced("x = 1"), "x = 1\n"),
        (fenced("x = 1") + fenced("x = 2"), "x = 2\n"),
        (fenced("x = 1") + "\n```\n1\n```", "x = 1\n"),
        (f"<think>{fenced('x = 1')}</think>{fenced('x = 2')}", "x = 2\n"),
        ("```python\nx = 1", "x = 1\n"),
        ("```Python\r\nx = 1\r\n```", "x = 1\n"),
        ("x = 1", None),
        (f"<think>{fenced('x = 1')}", None),
        ("```python\n\n```", None),
        ("", None),
    ],
)
def test_the_code_is_the_last_python_block(completion, code):
    assert find_code(completion, None, fallback_to_text=False) == code


def test_a_pattern_or_the_whole_text_can_be_the_code():
    tagged = re.compile(r"(?s)<code>(.*?)</code>")
    text = "<code>x = 1</code> no: <code>x = 2</code><code></code>"
    assert find_code(text, tagged, fallback_to_text=False) == "x = 2"
    assert find_code(fenced("x = 1"), tagged, fallback_to_text=False) is None
    assert find_code("x = 1", tagged, fallback_to_text=True) == "x = 1"
    assert find_code("x = 1", None, fallback_to_text=True) == "x = 1"
    assert find_code("  ", None, fallback_to_text=True) is None


@pytest.mark.parametrize(
    ("verdict", "passed", "kind", "expected"),
    [
        (Verdict.PASSED, 4, "all", 1.0),
        (Verdict.PASSED, 4, "fraction", 1.0),
        (Verdict.FAILED, 3, "all", 0.0),
        (Verdict.FAILED, 3, "fraction", 0.75),
        (Verdict.TIMEOUT, 1, "fraction", 0.25),
        (Verdict.OUTPUT_LIMIT, 4, "fraction", 0.75),
        (Verdict.CRASHED, 0, "fraction", 0.0),
    ],
)
async def test_a_verdict_becomes_a_reward(verdict, passed, kind, expected):
    sandbox = RecordingSandbox(Result(verdict, passed, 4, "why", 0.5, 0.75, 9, (), True))
    (judged,) = await score([fenced("x")], sandbox, **TESTS, reward=kind)
    assert judged.reward == expected
    assert judged.status == "ok"
    assert judged.facts == {
        "verdict": verdict.value,
        "passed": passed,
        "total": 4,
        "cpu_seconds": 0.5,
        "wall_seconds": 0.75,
        "cached": 1,
    }


async def test_a_fault_of_the_sandbox_is_a_status_and_no_reward():
    sandbox = RecordingSandbox(Result(Verdict.SANDBOX_ERROR, 0, 2, "no worker"))
    (judged,) = await score([fenced("x")], sandbox, **TESTS)
    assert (judged.reward, judged.status) == (None, "sandbox_error")
    assert judged.facts["detail"] == "no worker"


async def test_no_code_scores_nothing_and_runs_nothing():
    sandbox = RecordingSandbox()
    (judged,) = await score(["I cannot."], sandbox, **TESTS)
    assert (judged.reward, judged.status) == (0.0, "ok")
    assert judged.facts["verdict"] == "no_code"
    assert not sandbox.jobs


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({}, r"found the columns none, wanted exactly one of 'tests', .*has: none"),
        ({"tests": None, "x": 1}, r"found the columns none.*has: x"),
        ({"tests": "a", "cases": [1], "entry_point": "f"}, "found the columns tests, cases"),
        ({"stdin": "", "tests": "a"}, "found the columns tests, stdin"),
        ({"stdin": "1"}, "column 'stdout' is None, wanted text or a list"),
        ({"stdin": ["1", "2"], "stdout": "1"}, "'stdin' has 2 texts and 'stdout' 1"),
        ({"stdin": [], "stdout": []}, "column 'stdin' is"),
        ({"tests": "a"}, "the data row lacks the column 'entry_point'"),
        ({"tests": 3, "entry_point": "f"}, "column 'tests' is 3"),
        ({"tests": ["a", 1], "entry_point": "f"}, "column 'tests' is"),
        ({"tests": "a", "entry_point": "f", "support": 1}, "column 'support' is 1"),
        ({"cases": [], "entry_point": "f"}, "column 'cases' is .*not empty"),
        ({"cases": "[", "entry_point": "f"}, "which is not JSON"),
        ({"cases": [[1, 2]], "entry_point": "f"}, r"has the case \[1, 2\], wanted"),
        ({"cases": [{"args": [1]}], "entry_point": "f"}, "wanted .*expected"),
        ({"cases": [{"args": 1, "expected": 1}], "entry_point": "f"}, "no list of arguments"),
        ({"cases": [{"args": [], "expected": 1, "x": 1}], "entry_point": "f"}, "has the case"),
    ],
)
async def test_a_row_that_is_not_of_one_kind_is_an_error(columns, message):
    with pytest.raises(RewardError, match=message):
        await score(["no code"], **{name: [value] for name, value in columns.items()})


async def test_one_bad_row_leaves_no_other_half_judged():
    sandbox = RecordingSandbox()
    with pytest.raises(RewardError, match="column 'tests' is 3"):
        await score([fenced("x")] * 2, sandbox, tests=["a", 3], entry_point=["f", "f"])
    assert not sandbox.jobs


@pytest.mark.parametrize("pattern", ["x", "(x)(y)"])
def test_a_pattern_has_one_group(pattern):
    with pytest.raises(ConfigError, match="wanted one"):
        bind_rewards([RewardConfig.model_validate({"name": "code_execution", "pattern": pattern})])


async def test_a_real_sandbox_judges_all_three_kinds():
    right = fenced(
        "def f(x):\n    return [x, x + 1]\n\nif __name__ == '__main__':\n    print(f(1))"
    )
    wrong = fenced("def f(x):\n    return [x, x]\n")
    cases: dict[str, Any] = {
        "args": [1],
        "expected": [1, 2],
    }
    async with SandboxPool(slots=2, warm=2) as pool:
        two = {"entry_point": ["f"] * 2}
        called = await score([right, wrong], pool, cases=[[cases]] * 2, **two)
        tests = [["assert f(1)[0] == 1", "assert f(1) == [1, 2]"]] * 2
        tested = await score([right, wrong], pool, tests=tests, **two, reward="fraction")
        ran = await score([right, wrong], pool, stdin=["", ""], stdout=["[1, 2]\n"] * 2)
    assert [judged.reward for judged in called] == [1.0, 0.0]
    assert [judged.reward for judged in tested] == [1.0, 0.5]
    assert [judged.reward for judged in ran] == [1.0, 0.0]
    assert tested[1].facts["verdict"] == "failed"
