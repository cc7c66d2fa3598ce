"""However a run ends, nothing stays behind, and it does not take long."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
HONCHO = Path(sys.executable).with_name("honcho")
SMALL = ("data.heldout=[]", "generation.group_size=4", "learner.groups_per_step=8")

HANGS = """
import ctypes
from dataclasses import replace
from pathlib import Path

from learner.algorithms.grpo import grpo


def hangs():
    def hang(_batch):
        libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(256)
        libc.pthread_mutex_init(mutex, None)
        libc.pthread_mutex_lock(mutex)
        Path(__file__).with_name("hangs").touch()
        libc.pthread_mutex_lock(mutex)  # no bytecode runs from here on, as in a long mx.eval

    return replace(grpo(), advantages=hang)
"""


def test_mlx_train_killed_takes_everything_with_it(train):
    run = train("run.max_steps=100000", *SMALL)
    run.until_step(2)
    assert {*map(bool, (run.members(m) for m in ("learner", "actors", "reward_workers")))} == {True}
    run.process.kill()
    run.process.wait()
    assert gone_after(run) < 3.0


@pytest.mark.parametrize("step", [0, 3])
def test_ctrl_c_ends_everything_with_130(train, step: int):
    run = train("run.max_steps=100000", *SMALL)
    run.until(lambda: run.members("actors"), "the actors")
    run.until_step(step)
    run.interrupt()
    began = time.monotonic()
    assert run.ends(10) == 130, run.tail()
    assert time.monotonic() - began < 5.0
    assert run.members() == []
    assert run.last_error == "error: interrupted by SIGINT"
    assert run.temporary_files() == []
    assert "Traceback" not in run.stdout + run.stderr


@pytest.mark.parametrize(("signals", "seconds"), [(1, 5.0), (2, 2.0)], ids=["once", "twice"])
def test_ctrl_c_in_a_step_that_hangs_leaves_nothing(
    train, tmp_path: Path, signals: int, seconds: float
):
    (tmp_path / "hangs.py").write_text(HANGS)
    run = train(f"algorithm.name={tmp_path / 'hangs.py'}:hangs", *SMALL)
    run.until((tmp_path / "hangs").exists, "a step that hangs")
    began = time.monotonic()
    ctrl_c(run)
    if signals == 2:
        run.until(lambda: "SIGINT received" in run.stdout, "its answer")
        ctrl_c(run)
    assert run.ends(10) == 130, run.tail()
    assert time.monotonic() - began < seconds
    assert run.members() == []
    if signals == 1:
        assert run.temporary_files() == []
        assert "learner.1 ended with code 143" in run.stdout


def test_honcho_interrupted_in_a_step_that_hangs_leaves_nothing(start, tmp_path: Path, port: int):
    (tmp_path / "hangs.py").write_text(HANGS)
    tree = yaml.safe_load((ROOT / "configs" / "quickstart.yaml").read_text())
    tree["data"]["heldout"] = []
    tree["algorithm"] = {"name": f"{tmp_path / 'hangs.py'}:hangs"}
    tree["network"] = {"port": port, "http_port": port + 4}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(tree))
    environment = tmp_path / "environment"
    environment.write_text(
        f"CONFIG={config}\nLEARNER=tcp://127.0.0.1:{port}\nRUN_DIR={tmp_path / 'run'}\n"
        f"PYTHON={sys.executable}\nPYTHONUNBUFFERED=1\n"
    )
    run = start(HONCHO, "-e", environment, "start")
    run.until((tmp_path / "hangs").exists, "a step that hangs")
    began = time.monotonic()
    ctrl_c(run)
    run.ends(10)
    assert time.monotonic() - began < 5.0
    assert run.members() == []
    assert run.temporary_files() == []


def test_ctrl_c_during_the_checks_ends_them_too(train):
    run = train()
    run.until(lambda: run.members("learner"), "the learner's check")
    run.interrupt()
    assert run.ends(10) == 130, run.tail()
    assert run.members() == []
    assert run.last_error.startswith("error: interrupted")
    assert "Traceback" not in run.stdout + run.stderr


def test_from_the_learners_clean_end_to_mlx_trains_take_less_than_5_seconds(train):
    run = train("run.max_steps=4", *SMALL)
    run.until_step(1)
    (learner,) = run.members("learner")
    assert learner.wait(60) is None  # its code goes to its parent
    began = time.monotonic()
    run.succeeds(10)
    assert time.monotonic() - began < 5.0
    assert run.temporary_files() == []


def ctrl_c(run) -> None:
    """A terminal's: to everything in the foreground."""
    os.killpg(run.process.pid, signal.SIGINT)


def gone_after(run) -> float:
    """Seconds until none of its processes is left."""
    began = time.monotonic()
    while run.members() and time.monotonic() - began < 10:
        time.sleep(0.05)
    return time.monotonic() - began
