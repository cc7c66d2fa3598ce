"""Runs that cannot succeed end by themselves, non-zero, with the reason in the last line."""

from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

RAISES = """
def fails(completions, **columns):
    raise ValueError("no oracle today")
"""


def test_a_reward_that_always_raises_ends_the_run_and_is_never_a_zero(train, tmp_path: Path):
    path = tmp_path / "oracle.py"
    path.write_text(RAISES)
    run = train(f'rewards=[{{name: "{path}:fails"}}]', "data.heldout=[]")
    assert run.ends() not in (0, 2)
    assert run.last_error.startswith("error: ")
    assert "3 steps in a row" in run.last_error
    assert "reward_error" in run.last_error
    assert "no oracle today" in run.last_error
    rollouts = run.rollouts()
    assert len(rollouts) == 3 * 16 * 8
    assert {row["reward"] for row in rollouts} == {None}
    assert {row["status"] for row in rollouts} == {"reward_error"}
    assert {row["reward/mean"] for row in run.rows()} == {None}
    assert {row["policy_version"] for row in run.rows()} == {0}
    assert "no oracle today" in run.stdout
    assert run.members() == []


@pytest.mark.parametrize(
    ("role", "words"),
    [("actor", "no actor is registered"), ("reward_worker", "no reward worker is registered")],
)
def test_a_role_that_never_comes_is_named_in_the_end(train, role: str, words: str):
    run = train(f"roles.{role}=0", "learner.no_progress_seconds=3", "data.heldout=[]")
    assert run.ends() not in (0, 2)
    assert run.last_error.startswith("error: ")
    assert words in run.last_error
    assert run.members() == []
