"""A reward function's sandbox: its calls reach the worker's, and the answers come back."""

import asyncio
import math

import pytest

from protocol.config import RewardConfig
from protocol.messages import ScoreTask
from reward_workers.children.child import Child, ChildLost, ChildSettings
from reward_workers.sandbox.jobs import IO, Case, Equality, Limits, Result, Verdict

SOURCE = """
import asyncio
from reward_workers.registry import Judged
from reward_workers.sandbox.jobs import IO, Case, Equality, Limits, Sandbox

ODD = ((1, 2.0), {3}, b"x", 10**30, float("inf"), "\\ud800", {1: None})

async def every_mode(completions, *, sandbox: Sandbox):
    calls = await sandbox.run_calls(
        completions[0], entry="f", cases=[Case((ODD,), ODD, {"key": 1})],
        limits=Limits(cpu_seconds=1.5), equality=Equality(tolerance=0.0, tuples_as_lists=True),
    )
    stdio = await sandbox.run_stdio("p", cases=[IO("in", "out")])
    tests = await sandbox.run_tests("p", tests=["a", "b"], entry="f", support="s")
    return [Judged(1.0, facts={"calls": calls.detail, "stdio": stdio.passed,
                               "tests": str(tests.verdict)})]

async def many(completions, *, sandbox: Sandbox):
    results = await asyncio.gather(
        *(sandbox.run_stdio(str(n), cases=[IO("", "")]) for n in range(20))
    )
    return [float([result.passed for result in results] == list(range(20)))]

def plain(completions, *, sandbox: Sandbox):
    first = asyncio.run(sandbox.run_stdio("3", cases=[]))
    second = asyncio.run(sandbox.run_stdio("4", cases=[]))
    return [float(first.passed * second.passed)]

async def refused(completions, *, sandbox: Sandbox):
    await sandbox.run_stdio("refuse", cases=[])

async def odd(completions, *, sandbox: Sandbox):
    await sandbox.run_calls("c", entry="f", cases=[Case((object(),), 1)])

async def forgets(completions, *, sandbox: Sandbox):
    task = asyncio.ensure_future(sandbox.run_stdio("slow", cases=[]))
    await asyncio.sleep(0.05)
    return [1.0]

async def waits(completions, *, sandbox: Sandbox):
    await sandbox.run_stdio("slow", cases=[])
    return [1.0]
"""


LIMITS, EQUALITY = Limits(), Equality()


class FakeSandbox:
    """Notes what it is asked; `run_stdio` says a number, refuses, breaks, or takes 0.6 s."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    async def run_calls(self, code, *, entry, cases, limits=LIMITS, equality=EQUALITY) -> Result:
        self.asked.append((code, entry, cases, limits, equality))
        return Result(Verdict.FAILED, 0, 1, "wrong")

    async def run_stdio(self, code, *, cases, limits=LIMITS) -> Result:
        self.asked.append((code, cases, limits))
        if code == "refuse":
            raise ValueError("no cases")
        if code == "bug":
            raise AssertionError("our bug")
        if code == "slow":
            await asyncio.sleep(0.6)
        await asyncio.sleep(0.001 * (7 * len(self.asked) % 5))  # answers come in another order
        return Result(Verdict.PASSED, int(code) if code.isdigit() else 5, 1)

    async def run_tests(self, code, *, tests, entry, support="", limits=LIMITS) -> Result:
        self.asked.append((code, tests, entry, support, limits))
        return Result(Verdict.TIMEOUT, 0, 1)


def task(completion: str = "code") -> ScoreTask:
    return ScoreTask(
        group_id=0,
        attempt=1,
        sample=0,
        prompt='""',
        completion=completion,
        completion_tokens=1,
        finish_reason="stop",
        columns="{}",
    )


@pytest.fixture
async def sandbox():
    return FakeSandbox()


@pytest.fixture
async def ask(tmp_path, sandbox):
    """Calls one reward of the source above, with a time limit of 0.3 s; may be called again."""
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    children: list[Child] = []

    async def run(function: str, times: int = 1):
        config = RewardConfig(name=f"{path}:{function}")
        child = Child(ChildSettings((config,), 1 << 30), network=True)
        children.append(child)
        await child.start()
        assert child.traits[0].uses_sandbox
        child.sandbox = sandbox
        outcomes = [(await child.call(0, n, [task()], 0.3))[0] for n in range(times)]
        return outcomes[-1]

    yield run
    for child in children:
        await child.close()


async def test_each_mode_arrives_as_it_was_asked_for(ask, sandbox):
    outcome = await ask("every_mode")
    assert outcome.facts == {"calls": "wrong", "stdio": 5, "tests": "timeout"}, outcome
    odd = ((1, 2.0), {3}, b"x", 10**30, math.inf, "\ud800", {1: None})
    equality = Equality(tolerance=0.0, tuples_as_lists=True)
    case = Case([odd], odd, {"key": 1})
    assert sandbox.asked == [
        ("code", "f", [case], Limits(cpu_seconds=1.5), equality),
        ("p", [IO("in", "out")], Limits()),
        ("p", ["a", "b"], "f", "s", Limits()),
    ]


async def test_many_may_be_in_flight_each_with_its_own_answer(ask):
    assert (await ask("many")).reward == 1.0


async def test_a_function_that_is_not_async_may_ask_too(ask):
    assert (await ask("plain")).reward == 12.0


async def test_what_the_pool_refuses_is_the_rewards_failure(ask):
    outcome = await ask("refused")
    assert outcome.failure == "RewardError: the sandbox refused: ValueError: no cases"


async def test_an_argument_that_is_no_plain_value_is_refused_at_once(ask, sandbox):
    assert "object" in (await ask("odd")).failure
    assert sandbox.asked == []


async def test_time_spent_waiting_for_the_sandbox_is_not_idle(ask):
    assert (await ask("waits")).reward == 1.0  # 0.6 s, at a limit of 0.3 s


async def test_an_answer_that_nobody_waits_for_any_more_disturbs_nothing(ask):
    assert (await ask("forgets", times=3)).reward == 1.0


async def test_a_fault_of_our_own_reaches_the_worker(ask, sandbox, monkeypatch):
    async def broken(*_: object, **__: object) -> Result:
        raise AssertionError("our bug")

    monkeypatch.setattr(sandbox, "run_stdio", broken)
    with pytest.raises(AssertionError, match="our bug"):
        await ask("waits")


async def test_a_child_that_asks_without_being_given_a_sandbox_is_lost(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    settings = ChildSettings((RewardConfig(name=f"{path}:waits"),), 1 << 30)
    child = Child(settings, network=True)
    await child.start()
    with pytest.raises(ChildLost, match="what nobody asked for"):
        await child.call(0, 0, [task()], 5.0)
    await child.close()
