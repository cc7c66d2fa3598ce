"""Real runs of mixtures and of prompts that are too long, killed and resumed."""

import json

import pytest

from learner.audit import audit

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SMALL = (
    "data.heldout=[]",
    "data.max_prompt_tokens=10",
    "run.max_steps=8",
    "generation.group_size=4",
    "learner.groups_per_step=8",
    "checkpoints.interval=2",
)


@pytest.fixture
def mine(tmp_path):
    """Sums under other names of columns; the third is too long."""
    rows = [{"q": f"{n}+{n}", "a": str(2 * n)} for n in range(11, 30)]
    rows[2]["q"] = "1234567+1234567"
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_mixture_with_prompts_left_out_is_proved_over_a_kill_and_a_resume(train, mine):
    sources = [
        {"source": "arithmetic:add2?count=64", "weight": 3},
        {"source": str(mine), "weight": 1, "columns": {"answer": "a"}, "template": "{q}="},
    ]
    overrides = (*SMALL, f"data.train={json.dumps(sources)}")
    run = train(*overrides)
    run.until(lambda: (run.run_dir / "checkpoints/step_000004/manifest.json").is_file(), "step 4")
    run.kill_all()
    resumed = train(*overrides, run_dir=run.run_dir, options=["--resume"])
    resumed.succeeds()
    assert "1 of 83 prompts have more than data.max_prompt_tokens (10) tokens" in resumed.stdout
    assert json.loads((run.run_dir / "left_out.json").read_text()) == [f"{mine}:3"]

    prompts = {row["group"]: row["prompt_id"] for row in run.rollouts()}
    assert len(prompts) == 8 * 8
    shares = sum(prompt.startswith(str(mine)) for prompt in prompts.values()) / len(prompts)
    assert shares == pytest.approx(0.25, abs=0.05)  # a few groups in flight were not trained
    found = audit(run.run_dir)
    assert found.num_violations == 0, found.violations

    (run.run_dir / "left_out.json").unlink()
    wrong = audit(run.run_dir).violations["the prompt is what the stream has there"]
    assert any("mine.jsonl" in line for line in wrong)


def test_prompts_that_are_all_too_long_end_the_run_before_it_begins(train, mine):
    run = train(*SMALL, f"data.train=[{mine}]", "data.prompt_column=q", "data.max_prompt_tokens=2")
    assert run.ends() == 2
    assert "19 of 19 prompts have more than data.max_prompt_tokens (2) tokens" in run.last_error
    assert not run.run_dir.exists()
