"""The process that talks to wandb, with a package in wandb's place; tests/e2e has the real one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from learner.tracker import TrackedRun
from learner.trackers.wandb import wandb
from protocol.errors import ConfigError, TrainerError

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 30.0

STAND_IN = """
import json
import os
import time


def note(*call):
    with open(os.environ["CALLS"], "a") as file:
        file.write(json.dumps(call) + "\\n")


class Settings:
    def __init__(self, **given):
        self.given = given


class Run:
    def define_metric(self, name, **how):
        note("define_metric", name, how)

    def log(self, figures):
        note("log", figures)

    def finish(self):
        note("finish")
        while os.environ["HANGS"] == "finish":
            time.sleep(1)


def init(settings, **given):
    if os.environ["HANGS"] == "login":
        raise RuntimeError("no API key")
    note("init", given, settings.given, os.environ["WANDB_ERROR_REPORTING"])
    while os.environ["HANGS"] == "init":
        time.sleep(1)
    return Run()


def teardown():
    note("teardown")
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Puts the package in wandb's place; returns what reads the calls that it got."""

    def put(hangs=""):
        (tmp_path / "path" / "wandb").mkdir(parents=True)
        (tmp_path / "path" / "wandb" / "__init__.py").write_text(STAND_IN)
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'path'}:{ROOT}")
        monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
        monkeypatch.setenv("HANGS", hangs)
        return lambda: [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]

    return put


@pytest.fixture
def run(tmp_path):
    (tmp_path / "run").mkdir()
    return TrackedRun("addition", tmp_path / "run", {"run": {"seed": 3}}, 0)


def until(condition):
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def log_until_it_fails(tracker):
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        tracker.log(1, {"train/reward": 0.1}, 1000.0)


def test_a_run_is_begun_reported_and_finished(stand_in, run):
    calls = stand_in()
    tracker = wandb(project="p", mode="offline", tags=("a",))
    tracker.start(run)
    tracker.log(1, {"train/reward": 0.1}, 1000.0)
    tracker.log(1, {"eval/accuracy/accuracy": 0.5}, 1001.0)
    tracker.close(SECONDS)
    begun, *rest = calls()
    _, given, quiet, error_reporting = begun
    run_id = (run.folder / "wandb" / "run_id").read_text().strip()
    assert given == {
        "project": "p",
        "entity": None,
        "mode": "offline",
        "group": None,
        "tags": ["a"],
        "id": run_id,
        "name": "addition",
        "dir": str(run.folder),
        "resume": "allow",
        "config": {"run": {"seed": 3}},
    }
    assert quiet["console"] == "off"
    assert quiet["silent"] is True
    assert error_reporting == "false"
    assert rest == [
        ["define_metric", "train/global_step", {}],
        ["define_metric", "*", {"step_metric": "train/global_step"}],
        ["log", {"train/reward": 0.1, "train/global_step": 1}],
        ["log", {"eval/accuracy/accuracy": 0.5, "train/global_step": 1}],
        ["finish"],
        ["teardown"],
    ]


def test_a_resumed_run_is_the_same_run(stand_in, run):
    calls = stand_in()
    for _ in range(2):
        tracker = wandb()
        tracker.start(run)
        tracker.close(SECONDS)
    first, second = (call[1]["id"] for call in calls() if call[0] == "init")
    assert first == second


def test_a_failure_has_wandb_s_own_words(stand_in, run):
    stand_in("login")
    tracker = wandb()
    tracker.start(run)
    with pytest.raises(TrainerError, match="RuntimeError: no API key"):
        log_until_it_fails(tracker)
    with pytest.raises(TrainerError, match="no API key"):
        tracker.close(SECONDS)


@pytest.mark.parametrize(("where", "left"), [("init", "it has nothing"), ("finish", "wandb sync")])
def test_a_finish_that_hangs_is_bounded(stand_in, run, where: str, left: str):
    calls = stand_in(where)
    tracker = wandb()
    tracker.start(run)
    until(lambda: (run.folder.parent / "calls").exists())
    began = time.monotonic()
    with pytest.raises(TrainerError, match=rf"did not finish within 0\.8 s; .*{left}"):
        tracker.close(1.0)
    assert time.monotonic() - began < 2.0
    assert calls()[-1][0] == where


LEARNER = """
import sys, time
from pathlib import Path
from learner.tracker import TrackedRun
from learner.trackers.wandb import wandb
tracker = wandb()
tracker.start(TrackedRun("run", Path(sys.argv[1]), {}, 0))
for step in (1, 2, 3):
    tracker.log(step, {"train/reward": 0.1}, 1000.0)
print("reported", flush=True)
if sys.argv[2] == "closing":
    tracker.close(1000)
time.sleep(1000)
"""


@pytest.mark.parametrize(
    ("hangs", "last", "doing"),
    [("", "teardown", "training"), ("init", "init", "training"), ("finish", "finish", "closing")],
)
def test_a_killed_learner_s_reports_are_kept_and_nothing_stays_behind(
    stand_in, run, hangs: str, last: str, doing: str
):
    calls = stand_in(hangs)
    command = [sys.executable, "-c", LEARNER, str(run.folder), doing]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as learner:
        assert learner.stdout is not None
        assert learner.stdout.readline() == "reported\n"
        (child,) = psutil.Process(learner.pid).children()
        until(lambda: (run.folder.parent / "calls").exists())
        if doing == "closing":
            until(lambda: calls()[-1] == ["finish"])
        os.kill(learner.pid, signal.SIGKILL)
    began = time.monotonic()
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert time.monotonic() - began < 5.0
    assert calls()[-1][0] == last
    assert sum(call[0] == "log" for call in calls()) == (0 if last == "init" else 3)


def test_parameters_that_wandb_would_misread_are_refused():
    with pytest.raises(ConfigError, match="mode 'off': wanted online or offline"):
        wandb(mode="off")
    with pytest.raises(ConfigError, match=r"such as \[mine\]"):
        wandb(tags="mine")


def test_a_missing_package_is_named_with_the_remedy(monkeypatch, tmp_path):
    (tmp_path / "wandb").mkdir()  # a folder of wandb's files is no package
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[wandb\]'"):
        wandb()
