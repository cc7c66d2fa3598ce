"""An actor in the learner's process: alone, beside others, killed with it, and told to end."""

import signal

import pytest

from learner.audit import audit

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

COLOCATED = ("learner.colocated_actor=true", "roles.actor=0")
SMALL = (
    'data.heldout=["arithmetic:add2?count=16"]',
    "generation.group_size=4",
    "learner.groups_per_step=8",
    "evaluation.interval=3",
)
DIGESTS = ("digest/weights", "digest/masters")


def check(run, steps: int, max_staleness: int) -> None:
    """What holds of every run."""
    rows = run.rows()
    assert [row["step"] for row in rows] == list(range(1, steps + 1))
    assert all(abs(row["mismatch_kl"]) < 1e-8 for row in rows if not row["staleness/max"])
    assert max(row["staleness/max"] for row in rows) <= max_staleness
    found = audit(run.run_dir)
    assert found.num_violations == 0, found.violations


@pytest.mark.parametrize("bound", [0, 2])
def test_it_trains_with_no_other_actor(train, bound: int):
    # so hot and long that steps end in the middle of completions
    long = ("generation.max_completion_tokens=48", "generation.temperature=3.0")
    rows = "generation.max_sequences=8"
    stale = f"learner.max_off_policy_steps={bound}"
    run = train(*COLOCATED, *SMALL, *long, rows, stale, "run.max_steps=6")
    run.succeeds()
    check(run, 6, bound)
    first = run.rows()[0]
    assert abs(first["mismatch_kl"]) < 1e-10
    assert first["peers/actor"] == 1
    assert [row["step"] for row in run.evaluations()] == [0, 3, 6]
    rollouts = run.rollouts()
    assert len({row["actor"] for row in rollouts}) == 1
    mixed = [row for row in rollouts if len(row["policy_versions"]) > 1]
    assert bool(mixed) == (bound > 0)


def test_it_trains_beside_another_actor(train):
    run = train(*COLOCATED, *SMALL, "roles.actor=1", "run.max_steps=30")
    run.until(lambda: any(row["peers/actor"] == 2 for row in run.rows()), "two actors")
    run.succeeds()
    check(run, 30, 1)
    assert len({row["actor"] for row in run.rollouts()}) == 2


def test_killed_and_resumed_it_goes_on_at_the_checkpoint(train):
    options = (*COLOCATED, *SMALL, "checkpoints.interval=2")
    run = train(*options, "run.max_steps=100000")
    run.until_step(5)
    run.kill("learner")
    assert run.ends(10) == 128 + signal.SIGKILL
    newest = max(int(path.name[-6:]) for path in run.run_dir.glob("checkpoints/step_*"))
    assert newest >= 4
    resumed = train(*options, f"run.max_steps={newest + 4}", options=["--resume"])
    resumed.succeeds()
    assert f"resuming after step {newest}" in resumed.stdout
    check(resumed, newest + 4, 1)


def test_it_makes_the_same_weights_as_an_actor_of_its_own(train, tmp_path):
    options = ("run.deterministic=true", "learner.max_off_policy_steps=0", "run.max_steps=3")
    found = []
    for name, where in (("colocated", COLOCATED), ("separate", ("roles.actor=1",))):
        run = train(*SMALL, *options, *where, run_dir=tmp_path / name)
        run.succeeds()
        found.append([{key: row[key] for key in DIGESTS} for row in run.rows()])
    assert found[0] == found[1]
    assert len(found[0]) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_end_it_ends_soon(train, number: signal.Signals):
    run = train(*COLOCATED, *SMALL, "run.max_steps=100000")
    run.until_step(2)
    run.process.send_signal(number)
    assert run.ends(5) == 128 + number
    assert run.members() == []
    assert "did not within" not in run.stdout + run.stderr
