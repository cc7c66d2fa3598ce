"""Every alert fires at a real fault of a real run, and clears once the fault is gone.

Prometheus and its rules are real too; only their durations are divided, because an alert's wait is
minutes. With SOAK=1 in the environment they are divided by less.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from learner.data.arithmetic import arithmetic_rows
from tests.e2e.real_prometheus import Prometheus

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SOAK = os.environ.get("SOAK") == "1"
FACTOR = 5.0 if SOAK else 20.0
DEADLINE_SECONDS = 900.0 / FACTOR + 45.0
"""For one alert to fire or to clear."""
NO_PROGRESS_SECONDS = 480.0 / FACTOR
"""Half of it is LearnerStalled's limit; all of it ends the run."""
SCALE = 1e20
"""A reward function's weight, so that rewards can be made so large that a gradient overflows."""

PREFIX = "import atexit\natexit.register(lambda: print(answer))\nanswer = \\"
"""The tiny policy writes numbers; with this before it, a completion is a program."""
FAULTY = """
import os

def fails(completions, **columns):
    if os.path.exists({fails!r}) and any(text.endswith(("1", "2", "3")) for text in completions):
        raise ValueError("no oracle today")
    return [0.0 for _ in completions]

def scaled(completions, answer, **columns):
    right = 1e9 if os.path.exists({overflows!r}) else {one!r}
    return [right * (said == wanted) for said, wanted in zip(completions, answer)]
"""
ONES = """
def ones(completions, **columns):
    return [0.8 * text.startswith("1") / max(len(text), 1) for text in completions]
"""


@pytest.fixture
def prometheus(tmp_path: Path, port: int) -> Iterator[Prometheus]:
    interval = "1s" if SOAK else "250ms"
    folder = tmp_path / "prometheus"
    with Prometheus(folder, port + 4, factor=FACTOR, interval=interval) as prometheus:
        yield prometheus


def test_faults_of_processes_and_rewards_fire_and_clear(
    train, start, prometheus: Prometheus, tmp_path: Path
):
    fails, overflows = tmp_path / "fails", tmp_path / "overflows"
    run = train(*faulty(tmp_path, fails, overflows))
    run.until_step(1)
    lost = kill_an_actor(prometheus, start, run)
    fails.touch()
    overflows.touch()
    run.until(lambda: fails_in_the_sandbox(prometheus, run), "a fault of the sandbox")
    fires(prometheus, "SandboxErrors", cause="tries")
    fires(prometheus, "ActorDown", instance=lost)
    fires(prometheus, "RewardFailures", cause="samples_masked")
    fires(prometheus, "RewardFailures", cause="reward_function")
    fires(prometheus, "NonFiniteLoss")
    fails.unlink()
    overflows.unlink()
    late = start_actor(start, run)
    fires(prometheus, "StalenessHigh")
    with stopped(run.members("learner")):
        fires(prometheus, "LearnerStalled", cause="unreachable")
    clears(prometheus, "LearnerStalled")
    with stopped(run.members("reward_workers")):
        fires(prometheus, "QueueSaturated")
    clears(prometheus, "QueueSaturated")
    actors = [*run.members("actors"), *late.members("actors")]
    with stopped(actors):
        fires(prometheus, "NoRollouts")
        fires(prometheus, "LearnerStalled", cause="no_step")
    clears(prometheus, "NoRollouts", "LearnerStalled")
    clears(prometheus, "StalenessHigh", doing=lambda: slow_down(actors))
    clears(prometheus, "SandboxErrors", "RewardFailures", "NonFiniteLoss", "ActorDown")
    run.interrupt()
    assert run.ends(10) == 130
    assert prometheus.value("last_over_time(mlxrl_run_active[1m])") == 0


def test_a_policy_that_goes_wrong_fires_and_clears_by_the_remedy(
    train, prometheus: Prometheus, tmp_path: Path
):
    ones = tmp_path / "ones.py"
    ones.write_text(ONES)
    run_of = (
        "run.max_steps=100000",
        f'rewards=[{{name: "{ones}:ones"}}]',
        "algorithm={name: grpo, kl: {estimator: k3, coefficient: 1.0e-6}}",
        "data.heldout=[]",
        "checkpoints={interval: 1, keep_interval: 1}",
        "learner.max_parity_kl=1000",
        "generation.group_size=4",
        "learner.groups_per_step=8",
    )
    run = train(*run_of, "learner.optimizer.learning_rate=5.0e-4")
    run.until(lambda: prometheus.fires("KLExplodes", figure="kl_ref"), "KLExplodes")
    run.until(lambda: prometheus.fires("EntropyCollapse"), "EntropyCollapse")
    run.interrupt()
    assert run.ends(10) == 130
    again = train(*run_of, "learner.optimizer.learning_rate=1.0e-7", options=["--resume", "1"])
    steps = "mlxrl_step > 1 and mlxrl_run_epoch == 2"
    again.until(lambda: prometheus.query(f"{steps} and mlxrl_kl_ref < 1"), "steps of the resumed")
    again.until_step(12)
    clears(prometheus, "KLExplodes", "EntropyCollapse")
    since_then = "max_over_time(mlxrl_kl_ref[2s]) < 1 and mlxrl_run_epoch == 2"
    again.until(lambda: prometheus.query(since_then), "a KL that stays small")
    assert not prometheus.fires("KLExplodes")
    assert not prometheus.fires("EntropyCollapse")


def faulty(folder: Path, fails: Path, overflows: Path) -> list[str]:
    """A run whose rewards fail, or are far too large, while a file is there."""
    mine = folder / "mine.py"
    one = 1.0 / SCALE
    mine.write_text(FAULTY.format(fails=str(fails), overflows=str(overflows), one=one))
    sums = folder / "sums.jsonl"
    rows = arithmetic_rows("add2", "train", 2000)
    jobs = [{**row, "before": PREFIX, "stdin": "", "stdout": row["answer"]} for row in rows]
    sums.write_text("".join(json.dumps(job) + "\n" for job in jobs))
    code = "{name: code_execution, weight: 0.0, fallback_to_text: true, prefix_column: before}"
    rewards = f'{{name: "{mine}:scaled", weight: {SCALE}}}, {{name: "{mine}:fails", weight: 0.0}}'
    return [
        "run.max_steps=100000",
        f'data.train=["{sums}"]',
        "data.heldout=[]",
        f"rewards=[{rewards}, {code}]",
        "algorithm={name: grpo, norm_by_std: false}",
        "checkpoints.interval=0",
        "generation.group_size=4",
        "learner.groups_per_step=8",
        "learner.max_off_policy_steps=2",
        "learner.max_skipped_in_row=100000",
        f"learner.no_progress_seconds={NO_PROGRESS_SECONDS}",
        "network.heartbeat_seconds=0.3",
        "sandbox.cache_size=1",
    ]


def start_actor(start, run):
    """An actor that nobody starts again."""
    return start(*(sys.executable, "-m", "actors", "--learner", run.address), MLX_RL_SUPERVISED="1")


def kill_an_actor(prometheus: Prometheus, start, run) -> str:
    """Kill one that Prometheus has seen, with SIGKILL; returns its name."""
    late = start_actor(start, run)
    up = f'up{{instance=~"actor-.*-{late.process.pid}-.*"}} == 1'
    (found,) = prometheus.until(lambda: prometheus.query(up), "a late actor")
    late.process.kill()
    return found.labels["instance"]


def fails_in_the_sandbox(prometheus: Prometheus, run) -> bool:
    """Kill the sandbox, though not so often that a job fails at every try; True once one failed."""
    if prometheus.query("mlxrl_sandbox_errors_total > 0"):
        return True
    kill_the_sandbox(run)
    time.sleep(1.0)
    return False


def kill_the_sandbox(run) -> None:
    """Kill every process of the sandbox, zygote and spares."""
    for worker in run.members("reward_workers"):
        with suppress(psutil.Error):
            for process in worker.children(recursive=True):
                with suppress(psutil.Error):
                    if process.name() == "bwrap":
                        process.kill()


@contextmanager
def stopped(processes: list[psutil.Process]) -> Iterator[None]:
    """Stop them by SIGSTOP, and let them go on after it."""
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


def slow_down(processes: list[psutil.Process]) -> None:
    """Let them work for a small part of the time that passes until the next call."""
    with stopped(processes):
        time.sleep(0.4)


def fires(
    prometheus: Prometheus, name: str, doing: Callable[[], None] | None = None, **labels: str
) -> None:
    """Wait until an alert is firing, while doing something again and again."""

    def is_firing() -> bool:
        if doing is not None:
            doing()
        return prometheus.fires(name, **labels)

    prometheus.until(is_firing, f"{name} {labels} is firing", DEADLINE_SECONDS)
    told(f"{name} {labels} fires")


def clears(prometheus: Prometheus, *names: str, doing: Callable[[], None] | None = None) -> None:
    """Wait until none of these alerts is firing, while doing something again and again."""

    def is_clear() -> bool:
        if doing is not None:
            doing()
        return not any(prometheus.fires(name) for name in names)

    prometheus.until(is_clear, f"{', '.join(names)} clear", DEADLINE_SECONDS)
    told(f"{', '.join(names)} clear")


def told(what: str) -> None:
    """Shown by pytest where a test fails: what happened until then."""
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {what}\n")
