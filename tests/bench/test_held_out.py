"""The table of a run's evaluations, from a run folder written by hand."""

import json
import os

import pytest

from bench.held_out import evaluations, line, mixed_groups


def written(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / "mine"
    began = 1000.0
    rows = [{"step": s, "evaluator": "accuracy", "time": began + 60 * s} for s in (0, 4)]
    written(folder / "eval.jsonl", rows)
    right = {0: (0.0, 0.0, 0.0, 0.0, 0.0, 1.0), 4: (1.0, 1.0, 1.0, 1.0, 1.0, None)}
    for step, values in right.items():
        samples = [
            {"prompt_id": f"p:{i}", "rewards": {"first": value, "second": 0.5}}
            for i, value in enumerate(values)
        ]
        written(folder / "evaluations" / f"step_{step:06d}" / "accuracy.jsonl", samples)
    steps = [(0.0, 4.0), (0.5, 9.0), (1.0, 5.0)]
    written(
        folder / "metrics.jsonl",
        [{"groups/zero_advantage_fraction": z, "seconds/step": s} for z, s in steps],
    )
    written(folder / "config.yaml", [])
    os.utime(folder / "config.yaml", (began, began))
    return folder


def test_a_later_evaluation_is_compared_prompt_by_prompt(run_dir):
    (first, before), (later, after) = evaluations(run_dir, None, 1.0)
    assert list(before.values()) == [0, 0, 0, 0, 0, 1]
    assert line(run_dir, first, before, before) == "| mine | 0 | 0 | accuracy | 0.167 | 6 |  |  |"
    # five shared prompts, all better: 2 * (1/2)^5
    assert line(run_dir, later, before, after) == (
        "| mine | 4 | 4 | accuracy | 1.000 | 5 | 5, 0 | 0.062 |"
    )


def test_another_reward_may_decide(run_dir):
    (_, before), _ = evaluations(run_dir, "second", 0.5)
    assert set(before.values()) == {1.0}


def test_mixed_groups_and_the_median_step(run_dir):
    assert mixed_groups(run_dir) == ("3 steps, median 5 s; mixed groups 50% (first five steps 50%)")
