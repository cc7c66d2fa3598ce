"""Scoring with real children: whatever a reward function does costs its own sample and no other."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from protocol.config import RunConfig
from protocol.errors import ConfigError, RewardError
from protocol.messages import Score
from reward_workers.backlog import Backlog
from reward_workers.failures import Failures
from reward_workers.scoring import Scoring, check_rewards

NAUGHTY = """
import ctypes, os, re, signal, sys, threading, time

def do(what):
    if what == "loop":
        while True: pass
    if what == "regex":
        re.match("(a+)+$", "a" * 60 + "b")  # holds Python's lock all the time
    if what == "sleep":
        time.sleep(600)
    if what == "segfault":
        ctypes.string_at(0)
    if what == "exit0":
        os._exit(0)
    if what == "exit2":
        os._exit(2)
    if what == "sysexit":
        sys.exit(2)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "memory":
        hog = []
        while True: hog.append(b"x" * (8 << 20))
    if what == "close":
        os.closerange(3, 4096)
        time.sleep(600)
    if what == "garbage":
        for number in range(3, 4096):
            try: os.write(number, b"garbage" * 100)
            except OSError: pass
        time.sleep(600)
    if what == "forge":
        import msgpack, struct
        body = msgpack.packb({"said": 1, "outcomes": [[float("nan"), "x"]]})
        for number in range(3, 4096):
            try: os.write(number, struct.pack(">I", len(body)) + body)
            except OSError: pass
        time.sleep(600)
    if what == "spam":
        for _ in range(20_000): print("spam " * 20)
    if what == "alarm":
        def rung(*_): raise TimeoutError("rung")
        signal.signal(signal.SIGALRM, rung)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            while True: time.monotonic()
        except TimeoutError:
            return 3.0
    if what == "leave":
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
    if what == "thread":
        threading.Thread(target=time.sleep, args=(600,)).start()
    return 1.0

def naughty(completions):
    return [do(completion) for completion in completions]

def length(completions):
    return [float(len(completion)) for completion in completions]
"""


@pytest.fixture
def naughty(tmp_path):
    path = tmp_path / "naughty.py"
    path.write_text(NAUGHTY)
    return path


@pytest.fixture
def make_run(tmp_path):
    def make(*rewards: dict[str, object], processes: int = 1, **sections: object) -> RunConfig:
        return RunConfig.model_validate(
            {
                "model": {"path": "builtin:tiny"},
                "data": {"train": ["arithmetic:add2"]},
                "rewards": rewards,
                "reward_worker": {"processes": processes, "memory_bytes": 256 << 20},
                **sections,
            }
        )

    return make


class Scored:
    """A Scoring at work, and the scores that came of it."""

    def __init__(self, config: RunConfig) -> None:
        self.scores: dict[int, Score] = {}
        self.failures = Failures()
        self.backlog = Backlog()
        self._changed = asyncio.Event()
        self.scoring = Scoring(config, self.backlog, self._keep, self.failures)

    def _keep(self, score: Score) -> None:
        self.scores[score.sample] = score
        self._changed.set()

    @contextlib.asynccontextmanager
    async def running(self):
        ready = asyncio.Event()
        task = asyncio.ensure_future(self.scoring.run(1, ready.set))
        waiting = asyncio.ensure_future(ready.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            await task
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def score(self, work) -> list[Score]:
        self.backlog.add(work)
        self.scoring.wake()
        wanted = {task.sample for task in work.tasks}
        async with asyncio.timeout(60):
            while not wanted <= self.scores.keys():
                self._changed.clear()
                await self._changed.wait()
        return [self.scores[task.sample] for task in work.tasks]


def children() -> list[psutil.Process]:
    ours = psutil.Process().children(recursive=True)
    return [child for child in ours if "reward_workers.children.inside" in child.cmdline()]


@pytest.mark.parametrize(
    ("what", "status", "detail"),
    [
        ("loop", "reward_timeout", "more than 0.5 s of CPU"),
        ("regex", "reward_timeout", "more than 0.5 s of CPU"),
        ("sleep", "reward_timeout", "idle for more than 0.5 s"),
        ("memory", "reward_memory", "more than 256 MiB of memory"),
        ("segfault", "reward_crashed", "its process was killed by SIGSEGV"),
        ("exit0", "reward_crashed", "its process ended with code 0"),
        ("exit2", "reward_crashed", "its process ended with code 2"),
        ("kill", "reward_crashed", "its process was killed by SIGKILL"),
        ("close", "reward_crashed", "its process was killed by SIGKILL"),
        ("garbage", "reward_crashed", "which said"),
        ("forge", "reward_crashed", "which said the outcomes of another call"),
        ("sysexit", "reward_error", "SystemExit: 2"),
    ],
)
async def test_a_reward_that_does_not_come_back_costs_its_own_sample(
    make_run, make_work, naughty, what, status, detail
):
    # getting pages from a busy host is CPU time too
    limited = {"name": f"{naughty}:naughty", "timeout_seconds": 10.0 if what == "memory" else 0.5}
    scored = Scored(make_run({"name": f"{naughty}:length"}, limited))
    async with scored.running():
        scores = await scored.score(make_work("fine", "good", what, "well"))
        alone = await scored.score(make_work(what, first_sample=10))
        after = await scored.score(make_work("fine", first_sample=20))
    assert [score.reward for score in scores] == [5.0, 5.0, None, 5.0]
    assert after[0].reward == 5.0
    for guilty in (scores[2], alone[0]):
        assert guilty.status == status
        assert detail in guilty.detail
        assert guilty.detail.startswith("naughty: ")
        assert guilty.rewards[0].reward == len(what)
        assert (guilty.rewards[1].reward, guilty.rewards[1].status) == (None, status)
    assert scored.failures.by_reward() == {"naughty": 2}
    assert children() == []


async def test_a_suites_rewards_score_its_own_samples_and_no_others(make_run, make_work, naughty):
    own = [{"name": f"{naughty}:length", "weight": 2.0}, {"name": f"{naughty}:naughty"}]
    evaluators = [{"name": "mine", "rewards": own}, {"name": "runs_own"}]
    run = make_run({"name": "exact_match"}, evaluation={"evaluators": evaluators})
    work = make_work("85", "four")
    tasks = [work.tasks[0], work.tasks[1].model_copy(update={"suite": "mine"})]
    scored = Scored(run)
    async with scored.running():
        of_run, of_suite = await scored.score(work.model_copy(update={"tasks": tuple(tasks)}))
    assert {named.name: named.reward for named in of_run.rewards} == {"exact_match": 1.0}
    assert {named.name: named.reward for named in of_suite.rewards} == {
        "length": 4.0,
        "naughty": 1.0,
    }
    assert (of_run.reward, of_suite.reward) == (1.0, 9.0)
    assert await check_rewards(run) == ["exact_match", "length", "naughty"]
    evaluators = [{"name": "mine", "rewards": [{"name": "exact_match", "unknown": 1}]}]
    with pytest.raises(ConfigError, match="takes no parameter 'unknown'"):
        await check_rewards(
            make_run({"name": "exact_match"}, evaluation={"evaluators": evaluators})
        )


async def test_every_other_mischief_costs_nothing(make_run, make_work, naughty):
    scored = Scored(make_run({"name": f"{naughty}:naughty"}))
    async with scored.running():
        scores = await scored.score(make_work("spam", "alarm", "thread", "leave"))
        await asyncio.sleep(0.3)  # the alarm that it left behind would have rung
        after = await scored.score(make_work("fine", first_sample=10))
        restarts = scored.scoring.figures["child_restarts_total"]
    assert [score.reward for score in scores] == [1.0, 3.0, 1.0, 1.0]
    assert (after[0].reward, restarts) == (1.0, 0.0)


async def test_a_child_that_is_killed_between_calls_costs_nothing(make_run, make_work, naughty):
    scored = Scored(make_run({"name": f"{naughty}:naughty"}))
    async with scored.running():
        await scored.score(make_work("fine"))
        [child] = children()
        child.send_signal(signal.SIGKILL)
        scores = await scored.score(make_work("a", "b", "c", first_sample=10))
        await scored.score(make_work("d", first_sample=20))
        scored.scoring.refresh()
        figures = scored.scoring.figures
    assert [score.reward for score in scores] == [1.0, 1.0, 1.0]
    assert (figures["children"], figures["child_restarts_total"]) == (1.0, 1.0)
    assert figures["reward_crashes_total"] == 1.0


async def test_a_loop_in_one_child_does_not_hold_up_another(make_run, make_work, naughty):
    limited = {"name": f"{naughty}:naughty", "timeout_seconds": 20}
    scored = Scored(make_run(limited, processes=2))
    async with scored.running():
        began = time.monotonic()
        scored.backlog.add(make_work("loop"))
        scored.scoring.wake()
        await scored.score(make_work("fine", first_sample=10))
        assert time.monotonic() - began < 10
    assert children() == []


async def test_what_children_print_is_logged_in_part(make_run, make_work, naughty, caplog):
    caplog.set_level("INFO", logger="reward_workers.children.inside")
    scored = Scored(make_run({"name": f"{naughty}:naughty"}))
    async with scored.running():
        await scored.score(make_work("spam"))
    said = [record.getMessage() for record in caplog.records if "spam" in record.getMessage()]
    assert len(said) == 20
    assert any("19980 more lines" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("source", "error", "word"),
    [
        ("import ctypes; ctypes.string_at(0)", RewardError, "its process was killed by SIGSEGV"),
        ("import os; os.kill(os.getpid(), 9)", RewardError, "its process was killed by SIGKILL"),
        ("import os; os._exit(3)", RewardError, "its process ended with code 3"),
        ("print('last words', flush=True); import os; os._exit(3)", RewardError, "(last words)"),
        ("import sys; sys.exit(3)", ConfigError, "SystemExit: 3"),
        ("1 / 0", ConfigError, "ZeroDivisionError"),
        ("f = 3", ConfigError, "has no function 'f'"),
    ],
)
async def test_a_reward_that_cannot_be_loaded_is_named_and_a_crash_is_no_bad_input(
    make_run, tmp_path, source, error, word
):
    path = tmp_path / "broken.py"
    path.write_text(source)
    config = make_run({"name": "exact_match"}, {"name": f"{path}:f"}, processes=2)
    for start in (lambda: check_rewards(config), lambda: Scored(config).running().__aenter__()):
        with pytest.raises(error) as caught:
            await start()
        assert "broken.py:f'" in str(caught.value)
        assert word in str(caught.value)
    assert children() == []


async def test_a_reward_that_can_no_longer_be_loaded_ends_the_scoring(
    make_run, make_work, tmp_path, monkeypatch
):
    monkeypatch.setattr("reward_workers.children.lanes.RESTART_SECONDS", 0.01)
    path = tmp_path / "fleeting.py"
    path.write_text("import os\ndef f(completions): os._exit(0)\n")
    scored = Scored(make_run({"name": f"{path}:f"}))
    running = asyncio.ensure_future(scored.scoring.run(1, path.unlink))  # once it is ready
    scored.backlog.add(make_work("a"))
    while path.exists():  # noqa: ASYNC110 - a file has no event
        await asyncio.sleep(0.01)
    scored.backlog.add(make_work("a"))
    scored.scoring.wake()
    with pytest.raises(ConfigError, match="no file"):
        await running
    assert children() == []


ENDS_AT_ONCE = """
import asyncio, sys, logging
from reward_workers.children.child import Child, ChildSettings
from protocol.config import RewardConfig
from protocol.messages import ScoreTask

async def main():
    settings = ChildSettings((RewardConfig(name=sys.argv[1]),), 1 << 30)
    child = Child(settings, network=True)
    await child.start()
    task = ScoreTask(group_id=0, attempt=1, sample=0, prompt='""', completion=sys.argv[2],
                     completion_tokens=1, finish_reason="stop", columns="{}")
    asyncio.ensure_future(child.call(0, 0, [task], 600.0))
    await asyncio.sleep(0.2)
    print(child._process.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.parametrize("what", ["fine", "loop", "regex", "sleep"])
@pytest.mark.parametrize("lifeline_alone", [False, True])
def test_no_child_outlives_a_worker_that_is_killed(naughty, what, lifeline_alone, tmp_path):
    program = ENDS_AT_ONCE
    environment = dict(os.environ)
    if lifeline_alone:  # as on macOS
        (tmp_path / "sitecustomize.py").write_text(
            "import protocol.process\nprotocol.process.die_with_parent = lambda: None\n"
        )
        environment["PYTHONPATH"] = str(tmp_path)
    worker = subprocess.Popen(
        [sys.executable, "-c", program, f"{naughty}:naughty", what],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert worker.stdout is not None
    with worker, worker.stdout:
        child = psutil.Process(int(worker.stdout.readline()))
        worker.kill()
        worker.wait()
        child.wait(timeout=2)
