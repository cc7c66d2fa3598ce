"""However a run ends, nothing stays behind, and it does not take long."""

import time

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SMALL = ("data.heldout=[]", "generation.group_size=4", "learner.groups_per_step=8")


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


def gone_after(run) -> float:
    """Seconds until none of its processes is left."""
    began = time.monotonic()
    while run.members() and time.monotonic() - began < 10:
        time.sleep(0.05)
    return time.monotonic() - began
