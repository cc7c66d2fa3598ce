import json
from pathlib import Path
from typing import Any

import pytest

from learner.launch.progress import RunProgress, duration


def append(path: Path, *rows: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def step_row(step: int, **others: float | None) -> dict[str, Any]:
    return {"step": step, "seconds/step": 2.0, "reward/mean": step / 10, **others}


@pytest.mark.parametrize(("seconds", "eta"), [(0.5, "0:30"), (2.0, "2:00"), (130.0, "2:10:00")])
def test_time_left_comes_from_the_last_steps(tmp_path: Path, seconds: float, eta: str):
    progress = RunProgress(tmp_path, 100)
    append(tmp_path / "metrics.jsonl", step_row(40, **{"seconds/step": seconds}))
    assert progress.update()
    assert progress.facts()["eta"] == eta  # 60 steps are left


def test_before_the_first_step_nothing_is_known(tmp_path: Path):
    progress = RunProgress(tmp_path, 100)
    assert not progress.update()
    assert progress.step == 0
    assert progress.eta_seconds() is None
    assert progress.time_shares() == {}
    assert duration(None) == "-"


def test_a_series_holds_the_last_40_steps_with_gaps_where_there_is_no_number(tmp_path: Path):
    progress = RunProgress(tmp_path, 100)
    rows = [step_row(step) for step in range(1, 51)]
    rows[48]["reward/mean"] = None
    rows[49]["reward/mean"] = float("nan")
    append(tmp_path / "metrics.jsonl", *rows)
    progress.update()
    assert progress.series("reward/mean") == [step / 10 for step in range(11, 49)] + [None, None]
    assert progress.value("reward/mean") is None
    assert progress.value("step") == 50


def test_shares_say_where_the_time_of_the_last_steps_went(tmp_path: Path):
    progress = RunProgress(tmp_path, 100)
    spent = {"seconds/wait": 1.0, "seconds/train": 0.5, "seconds/publish": 0.1}
    append(tmp_path / "metrics.jsonl", step_row(1, **spent), step_row(2, **spent))
    progress.update()
    shares = {name: round(share, 6) for name, share in progress.time_shares().items()}
    assert shares == {"wait": 0.5, "train": 0.25, "publish": 0.05, "other": 0.2}  # of 4 s


def test_steps_of_an_earlier_start_are_no_news(tmp_path: Path):
    progress = RunProgress(tmp_path, 100, since=1000.0)
    append(tmp_path / "metrics.jsonl", step_row(1, time=999.0))
    assert not progress.update()
    append(tmp_path / "metrics.jsonl", step_row(2, time=1001.0))
    assert progress.update()
    assert progress.step == 2


def test_an_evaluation_without_a_count_is_still_one(tmp_path: Path):
    progress = RunProgress(tmp_path, 100)
    append(
        tmp_path / "eval.jsonl",
        {"evaluator": "accuracy", "accuracy": 0.5, "n": "many"},
        {"evaluator": "accuracy", "accuracy": None},
        {"evaluator": "pass_at_k", "accuracy": 0.9},
    )
    progress.update()
    assert progress.accuracy_line() == "held-out accuracy 0.500 (n 0)"
