"""The quickstart in short: it learns, and everything that it should leave behind is there."""

import subprocess
import sys
from pathlib import Path

import pytest

from learner.audit import audit
from learner.data.arithmetic import arithmetic_rows

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

STEPS = 12
NUM_ASKED = 64
ROW_KEYS = """
    step policy_version time reward/mean reward/std reward/exact_match/mean loss kl_ref mismatch_kl
    entropy grad_norm learning_rate clip_fraction staleness/mean staleness/max
    completion_tokens/mean completion/truncated_fraction groups/zero_advantage_fraction
    tokens_per_second samples_per_second seconds/step seconds/wait seconds/train seconds/publish
    publish_bytes
"""
ROLLOUT_KEYS = """
    group prompt_id sample attempt actor prompt completion token_ids behaviour_logprobs logprobs
    rewards reward advantage policy_versions finish_reason status
"""
ANSWER = """
import sys
import mlx_lm
model, tokenizer = mlx_lm.load(sys.argv[1])
for prompt in sys.argv[2:]:
    chat = [{"role": "user", "content": prompt}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True)
    print(mlx_lm.generate(model, tokenizer, prompt=ids, max_tokens=8).strip())
"""


def answers(checkpoint: Path, prompts: list[str]) -> list[str]:
    """mlx-lm's own greedy answers."""
    command = [sys.executable, "-c", ANSWER, str(checkpoint), *prompts]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.splitlines()


def test_it_learns_and_leaves_everything_behind(train):
    run = train(f"run.max_steps={STEPS}", "evaluation.interval=0")
    run.succeeds(seconds=180)

    first, last = run.evaluations()
    assert (first["step"], last["step"]) == (0, STEPS)
    assert first["n"] == last["n"] >= 512
    assert last["accuracy"] - first["accuracy"] >= 0.25

    rows, rollouts = run.rows(), run.rollouts()
    assert all(set(row) >= set(ROW_KEYS.split()) for row in rows)
    assert all(set(row) == set(ROLLOUT_KEYS.split()) for row in rollouts)
    assert len(rollouts) == 8 * rows[-1]["trained"] == 8 * 16 * STEPS
    heldout = {row["prompt"] for row in arithmetic_rows("add2", "heldout", first["n"])}
    assert heldout.isdisjoint(row["prompt"] for row in rollouts)
    found = audit(run.run_dir)
    assert found.num_violations == 0, found.violations

    shown = run.stdout.splitlines()[-3:]
    figures = f"{first['accuracy']:.3f} -> {last['accuracy']:.3f}"
    assert shown[0].startswith(f"held-out accuracy {figures}")
    checkpoint = run.run_dir / "checkpoints" / f"step_{STEPS:06d}"
    assert shown[1:] == [f"run folder {run.run_dir}", f"last checkpoint {checkpoint}"]
    assert {path.stem.split("-")[0] for path in run.run_dir.glob("logs/*.log")} == {
        "learner",
        "actor",
        "reward_worker",
    }
    assert_mlx_lm_answers_as_well(checkpoint, last["accuracy"])


def assert_mlx_lm_answers_as_well(checkpoint: Path, accuracy: float) -> None:
    rows = arithmetic_rows("add2", "heldout", NUM_ASKED)
    texts = answers(checkpoint, [row["prompt"] for row in rows])
    right = sum(text == row["answer"] for text, row in zip(texts, rows, strict=True))
    # of 64 prompts, at an accuracy of 0.9, four standard deviations are 0.15
    assert abs(right / NUM_ASKED - accuracy) <= 0.15, texts


def test_without_a_learning_rate_nothing_is_learned(train):
    run = train("run.max_steps=4", "evaluation.interval=0", "learner.optimizer.learning_rate=0.0")
    run.succeeds()
    first, last = run.evaluations()
    assert last["n"] >= 512
    assert abs(last["accuracy"] - first["accuracy"]) <= 0.02
