"""kill -9 in mid-run: whoever dies, every prompt is trained exactly once."""

import random
import re
import sys
import time

import psutil
import pytest

from learner.audit import audit

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

VICTIMS = ["actors", "actors", "actors", "reward_workers", "reward_workers"]


def test_a_run_outlives_killed_actors_and_reward_workers(train):
    rng = random.Random(0)
    run = train("run.max_steps=45", "data.heldout=[]")
    killed: set[int] = set()
    moments = sorted(rng.sample(range(2, 30), len(VICTIMS)))
    for step, module in zip(moments, rng.sample(VICTIMS, len(VICTIMS)), strict=True):
        run.until_step(step)
        time.sleep(rng.uniform(0.0, 0.3))  # anywhere in a step; nothing waits for this
        killed.add(run.kill(module))
    run.succeeds(seconds=180)
    assert len(killed) == len(VICTIMS)
    assert run.stdout.count("was killed by SIGKILL") == len(VICTIMS)
    found = audit(run.run_dir)
    assert found.num_violations == 0, found.violations
    assert found.figures["groups trained"] == 45 * 16
    assert found.figures["rollouts trained"] == 45 * 16 * 8


def test_groups_of_a_killed_actor_are_trained_in_a_later_attempt(train):
    # Long completions: the only actor is always in the middle of some.
    run = train(
        "run.max_steps=8",
        "roles.actor=1",
        "data.heldout=[]",
        "generation.max_completion_tokens=48",
        "generation.temperature=3.0",
    )
    run.until_step(2)
    run.kill("actors")
    run.succeeds()
    found = audit(run.run_dir)
    assert found.num_violations == 0, found.violations
    assert found.figures["groups beyond their first attempt"] > 0
    assert run.rows()[-1]["discarded/actor_lost"] > 0


def test_a_late_actor_joins_works_and_leaves_with_the_run(train, start):
    run = train("run.max_steps=60", "data.heldout=[]")
    run.until_step(2)
    late = start(sys.executable, "-m", "actors", "--learner", run.address)
    pids = late.until(lambda: worker_pids(late), "the late actor")
    run.until(lambda: run.rows()[-1]["peers/actor"] == 3, "three actors")
    run.succeeds()
    assert late.ends(seconds=5) == 0
    assert late.members() == []
    names = {row["actor"] for row in run.rollouts()}
    assert len(names) == 3
    assert sum(bool(pids & {int(n) for n in re.findall(r"\d+", name)}) for name in names) == 1
    found = audit(run.run_dir)
    assert found.num_violations == 0, found.violations


def worker_pids(late) -> set[int]:
    """Of the process under the actor's own supervisor."""
    try:
        return {p.pid for p in late.members("actors") if p.ppid() == late.process.pid}
    except psutil.NoSuchProcess:
        return set()
