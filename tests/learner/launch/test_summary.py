import json
from pathlib import Path
from typing import Any

from learner.launch.summary import how_to_go_on, summary, summary_facts


def append(path: Path, *rows: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def evaluation_row(step: int, accuracy: float, n: int = 512) -> dict[str, Any]:
    return {"step": step, "evaluator": "accuracy", "n": n, "accuracy": accuracy}


def test_the_summary_tells_before_and_after_and_where_things_are(tmp_path: Path):
    append(
        tmp_path / "eval.jsonl",
        evaluation_row(0, 0.414),
        {"step": 0, "evaluator": "pass_at_k", "n": 512, "pass_at_1": 0.9},
        evaluation_row(10, 0.6),
        evaluation_row(60, 0.78),
    )
    for name in ("step_000050", "step_000060", "step_000070.tmp"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert summary(tmp_path) == [
        "held-out accuracy 0.414 -> 0.780 (+0.366, n 512)",
        f"run folder {tmp_path}",
        f"last checkpoint {tmp_path}/checkpoints/step_000060",
    ]


def test_the_summary_of_a_run_that_never_began_is_empty(tmp_path: Path):
    assert summary(tmp_path / "nothing") == []
    assert summary(tmp_path) == [f"run folder {tmp_path}", "no checkpoint"]


def test_a_failed_run_is_told_what_resuming_will_do(tmp_path: Path):
    assert how_to_go_on(tmp_path) == "to begin anew in that folder: the same command with --resume"
    (tmp_path / "checkpoints" / "step_000050").mkdir(parents=True)
    assert how_to_go_on(tmp_path) == "to go on from there: the same command with --resume"


def test_a_program_is_told_the_same(tmp_path: Path):
    append(tmp_path / "metrics.jsonl", {"step": 7, "time": 1.0})
    append(tmp_path / "eval.jsonl", evaluation_row(0, 0.25), evaluation_row(7, 0.75))
    (tmp_path / "checkpoints" / "step_000007").mkdir(parents=True)
    assert summary_facts(tmp_path, 9) == {
        "step": 7,
        "max_steps": 9,
        "heldout_accuracy": {"before": 0.25, "after": 0.75, "n": 512},
        "run_dir": str(tmp_path),
        "checkpoint": f"{tmp_path}/checkpoints/step_000007",
    }


def test_a_program_is_told_null_for_what_never_was(tmp_path: Path):
    assert summary_facts(tmp_path / "nothing", 9) == {
        "step": 0,
        "max_steps": 9,
        "heldout_accuracy": {"before": None, "after": None, "n": 0},
        "run_dir": None,
        "checkpoint": None,
    }
