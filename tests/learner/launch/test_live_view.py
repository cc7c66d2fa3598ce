import json
from pathlib import Path
from typing import Any

import pytest

from learner.launch.live_view import view_lines
from learner.launch.progress import RunProgress
from learner.launch.role_line import RoleLine

ROW = {
    "step": 12,
    "reward/mean": 0.534,
    "reward/exact_match/mean": 0.9,
    "reward/format/mean": 0.2,
    "tokens_per_second": 812.4,
    "samples_per_second": 101.5,
    "seconds/step": 2.0,
    "seconds/wait": 1.0,
    "seconds/train": 0.5,
    "seconds/publish": 0.1,
    "peers/actor": 1,
    "peers/reward_worker": 1,
    "idle/actor": 0.12,
    "idle/learner": 0.5,
    "staleness/mean": 0.5,
    "staleness/max": 2,
}
SLOW = RoleLine("actor.1", "12:00:01", "WARNING", "whole", "actors: slow")


def make_progress(folder: Path, *rows: dict[str, Any]) -> RunProgress:
    with (folder / "metrics.jsonl").open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    with (folder / "eval.jsonl").open("w") as file:
        for step, accuracy in ((0, 0.4), (10, 0.6)):
            row = {"step": step, "evaluator": "accuracy", "n": 512, "accuracy": accuracy}
            file.write(json.dumps(row) + "\n")
    progress = RunProgress(
        folder,
        60,
        rewards=["exact_match", "format"],
        wanted={"actor": 2, "reward_worker": 1},
        page="http://127.0.0.1:19560/",
    )
    progress.update()
    return progress


def view(progress: RunProgress, width: int = 110, **options: Any) -> list[str]:
    lines = view_lines(progress, [SLOW], elapsed_seconds=75.0, width=width, **options)
    assert all(line.cell_len <= width for line in lines)
    return [line.plain for line in lines]


def test_the_view_says_all_that_there_is_to_say(tmp_path: Path):
    rows = [{**ROW, "step": 11, "reward/mean": 0.1}, ROW]
    assert view(make_progress(tmp_path, *rows)) == [
        f"step 12/60 {'━' * 8}{'─' * 32} 20%  1:15 elapsed, 1:36 left",  # 48 steps of 2 s
        "reward    0.534  ▁█  exact_match 0.900  format 0.200",
        "held-out  accuracy 0.400 -> 0.600 (+0.200, n 512)",
        "rates     812 tokens/s  101.5 samples/s  2.00 s/step",
        "time      wait 50%  train 25%  publish 5%  other 20%",
        "peers     1 of 2 actors (12% idle)  1 of 1 reward workers  learner (50% idle)",
        "staleness mean 0.50, max 2",
        "12:00:01 actor.1: actors: slow",
        "run page  http://127.0.0.1:19560/",
    ]


def test_before_the_first_step_it_says_what_it_waits_for(tmp_path: Path):
    lines = view(RunProgress(tmp_path, 60))
    assert lines[0].endswith(" 0%  1:15 elapsed")
    assert lines[1:] == ["reward    waiting for the first step", "12:00:01 actor.1: actors: slow"]


@pytest.mark.parametrize("width", [1, 20, 40, 59, 80])
def test_a_narrow_terminal_has_more_lines_and_none_that_is_too_long(tmp_path: Path, width: int):
    lines = view(make_progress(tmp_path, *[ROW] * 40), width)
    assert len(lines) >= 9
    if width >= 59:
        text = "\n".join(lines)
        assert "step 12/60" in text
        assert "format 0.200" in text
        assert "learner (50% idle)" in text


def test_a_terminal_without_unicode_gets_ascii(tmp_path: Path):
    lines = view(make_progress(tmp_path, ROW), 50, is_unicode=False)
    assert "".join(lines).isascii()


def test_a_run_past_its_last_step_is_whole(tmp_path: Path):
    assert " 100% " in view(make_progress(tmp_path, {**ROW, "step": 70}))[0]


def test_a_name_cannot_move_the_cursor(tmp_path: Path):
    progress = make_progress(tmp_path, ROW)
    progress.rewards = ["\x1b[2Jbad", "[bold]x"]
    text = "\n".join(view(progress))
    assert "\x1b" not in text
    assert "bad -  [bold]x -" in text
