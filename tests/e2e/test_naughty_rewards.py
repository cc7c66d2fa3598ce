"""Rewards that do not come back: the run goes on, and what they cost is counted."""

from pathlib import Path

import pytest

from learner.audit import audit

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NAUGHTY = """
import os

def naughty(completions, answer, **columns):
    return [judge(*pair) for pair in zip(completions, answer)]

def judge(completion, answer):
    if "77" in completion:
        while True:
            pass
    if "33" in completion or "44" in completion:
        os._exit(2)
    return float(completion == answer)
"""


def test_a_reward_that_loops_on_some_completions_masks_those_and_no_other(train, tmp_path: Path):
    path = tmp_path / "mine.py"
    path.write_text(NAUGHTY)
    run = train(
        f'rewards=[{{name: "{path}:naughty", timeout_seconds: 0.5}}]',
        "data.heldout=[]",
        "run.max_steps=3",
    )
    run.succeeds(seconds=180)
    rows = run.rollouts()
    assert len(rows) == 3 * 16 * 8
    masked = {"reward_timeout": 0, "reward_crashed": 0}
    for row in rows:
        completion = row["completion"]
        wanted = "ok"
        if "77" in completion:
            wanted = "reward_timeout"
        elif "33" in completion or "44" in completion:
            wanted = "reward_crashed"
        assert (row["status"], row["reward"] is None) == (wanted, wanted != "ok"), completion
        if wanted != "ok":
            masked[wanted] += 1
    assert min(masked.values()) > 0, masked
    counted = run.rows()[-1]  # those of groups that were not trained on in the end, too
    assert all(counted[f"masked/{status}"] >= count for status, count in masked.items())
    found = audit(run.run_dir)
    assert found.num_violations == 0, found.violations
    assert "starting it again" not in run.stdout  # the worker itself never ended
    assert "never retrieved" not in run.stdout
