"""--resume continues at the checkpoint, as if nothing had happened in between."""

import json
import signal

import pytest

from learner.audit import audit

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SMALL = (
    "data.heldout=[]",
    "checkpoints.interval=5",
    "generation.group_size=4",
    "learner.groups_per_step=8",
    "learner.max_off_policy_steps=2",
)


@pytest.mark.parametrize("how", ["interrupt", "kill_learner", "kill_everything"])
def test_a_stopped_run_continues_at_its_checkpoint(train, how: str):
    run = train("run.max_steps=100000", *SMALL)
    run.until_step(12)
    if how == "interrupt":
        run.interrupt()
        assert run.ends(10) == 130
    elif how == "kill_learner":
        run.kill("learner")
        assert run.ends(10) == 128 + signal.SIGKILL
        assert "SIGKILL" in run.last_error
    else:
        run.process.kill()
        run.kill_all()
    newest = max(run.run_dir.glob("checkpoints/step_*"))
    checkpoint = json.loads((newest / "trainer.json").read_text())["step"]
    assert checkpoint >= 5  # the one of step 10 may still have been on its way
    steps = checkpoint + 6

    resumed = train(f"run.max_steps={steps}", *SMALL, options=["--resume"])
    resumed.succeeds()
    assert f"resuming after step {checkpoint}" in resumed.stdout
    assert [row["step"] for row in resumed.rows()] == list(range(1, steps + 1))
    assert (run.run_dir / "run_epoch").read_text() == "2\n"
    found = audit(run.run_dir)
    assert found.num_violations == 0, found.violations


def test_a_finished_run_has_nothing_left_to_do(train):
    run = train("run.max_steps=3", *SMALL)
    run.succeeds()
    metrics = (run.run_dir / "metrics.jsonl").read_bytes()
    again = train("run.max_steps=3", *SMALL, options=["--resume"])
    again.succeeds(30)
    assert (run.run_dir / "metrics.jsonl").read_bytes() == metrics
    found = audit(run.run_dir)
    assert found.num_violations == 0, found.violations


def test_a_run_that_was_stopped_before_any_checkpoint_begins_anew(train):
    run = train("run.max_steps=100000", *SMALL, "checkpoints.interval=0")
    run.until_step(2)
    run.interrupt()
    assert run.ends(10) == 130
    resumed = train("run.max_steps=4", *SMALL, options=["--resume"])
    resumed.succeeds()
    assert "resuming from step 0" in resumed.stdout
    assert [row["step"] for row in resumed.rows()] == [1, 2, 3, 4]
