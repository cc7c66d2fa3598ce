"""Jobs cross to a rival's process as they are; its log says when steps ended."""

import json
from pathlib import Path

from bench.table.rivals.job import STEPS_FILE, Job, Prompt, StepLog, read_job

REWARDS = Path(__file__).parents[4] / "bench" / "table" / "rivals" / "rewards.py"


def job_in(folder: Path, **changes) -> Job:
    values = {
        "model": "m",
        "prompts": str(folder / "prompts.jsonl"),
        "reward": f"{REWARDS}:digits_right",
        "folder": str(folder),
        "prompts_per_step": 2,
        "group_size": 3,
        "max_completion_tokens": 4,
        "steps": 5,
        "learning_rate": 1e-4,
    }
    return Job(**{**values, **changes})


def test_a_job_is_read_as_it_was_written(tmp_path):
    job = job_in(tmp_path, lora_rank=8, seed=3)
    assert read_job(str(job.write())) == job
    assert job.samples_per_step == 6


def test_prompts_keep_their_order(tmp_path):
    rows = [{"token_ids": [n], "text": str(n), "answer": "a"} for n in (3, 1, 2)]
    (tmp_path / "prompts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert job_in(tmp_path).read_prompts() == [Prompt([n], str(n), "a") for n in (3, 1, 2)]


def test_the_reward_comes_from_its_file(tmp_path):
    score = job_in(tmp_path).load_reward()
    assert score(["85", "15", "7"], answer=["85", "85", "85"]) == [1.0, 0.25, 0.0]


def test_weights_are_kept_at_the_interval_and_each_step_is_logged(tmp_path):
    saved: list[str] = []
    log = StepLog(job_in(tmp_path, save_interval=2), saved.append)
    for _ in range(5):
        log.step(reward=0.5)
    assert [Path(path).name for path in saved] == ["2.safetensors", "4.safetensors"]
    rows = [json.loads(line) for line in (tmp_path / STEPS_FILE).read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert all(row["began"] <= row["time"] for row in rows)
