import datetime
import io
import json
from pathlib import Path
from typing import Any

import pytest
from honcho.printer import Message
from rich.console import Console

from learner.launch.progress import (
    JsonlTail,
    LiveDisplay,
    PlainDisplay,
    RunProgress,
    how_to_go_on,
    summary,
)

NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


def append(path: Path, *rows: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def metrics_row(step: int, **others: float | None) -> dict[str, Any]:
    return {
        "step": step,
        "reward/mean": 0.534,
        "loss": -0.01234,
        "tokens_per_second": 812.4,
        "peers/actor": 2,
        "peers/reward_worker": 1,
        "seconds/step": 2.0,
        **others,
    }


def evaluation_row(step: int, accuracy: float, n: int = 512) -> dict[str, Any]:
    return {"step": step, "evaluator": "accuracy", "n": n, "accuracy": accuracy}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_row_is_read_once_and_only_when_its_line_is_complete(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    tail = JsonlTail(path)
    assert tail.read() == []
    path.write_text('{"step": 1}\n{"st')
    assert tail.read() == [{"step": 1}]
    assert tail.read() == []
    with path.open("a") as file:
        file.write('ep": 2}\n')
    assert tail.read() == [{"step": 2}]


def test_a_file_that_shrank_is_read_from_its_start(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    append(path, {"step": 1}, {"step": 2})
    tail = JsonlTail(path)
    tail.read()
    path.write_text('{"step": 1}\n')
    assert tail.read() == [{"step": 1}]


def test_lines_that_are_no_objects_are_passed_over(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'oops\n[1]\n\xff\n{"step": 3}\n')
    assert JsonlTail(path).read() == [{"step": 3}]


def test_a_plain_line_says_where_the_run_is(tmp_path: Path):
    output = io.StringIO()
    display = PlainDisplay(RunProgress(tmp_path, 60), output, Clock())
    display.tick()
    assert output.getvalue() == ""
    append(tmp_path / "metrics.jsonl", metrics_row(12))
    display.tick()
    assert output.getvalue() == (
        "step 12/60 reward 0.534 loss -0.0123 tokens/s 812 actors 2 reward_workers 1 eta 1:36\n"
    )  # 48 steps of 2 s


def test_plain_lines_come_every_few_seconds_and_the_last_one_always(tmp_path: Path):
    output, clock = io.StringIO(), Clock()
    display = PlainDisplay(RunProgress(tmp_path, 4), output, clock)
    for step, now in ((1, 100.0), (2, 100.5), (3, 102.5), (4, 103.0)):
        append(tmp_path / "metrics.jsonl", metrics_row(step))
        clock.now = now
        display.tick()
        display.tick()
    display.close()
    assert [line.split()[1] for line in output.getvalue().splitlines()] == ["1/4", "3/4", "4/4"]


def test_what_is_not_known_is_a_dash(tmp_path: Path):
    output = io.StringIO()
    display = PlainDisplay(RunProgress(tmp_path, 60), output, Clock())
    append(tmp_path / "metrics.jsonl", {"step": 1, "loss": None})
    display.tick()
    assert "reward - loss - tokens/s - actors - reward_workers - eta -" in output.getvalue()


@pytest.mark.parametrize(("seconds", "eta"), [(0.5, "0:30"), (2.0, "2:00"), (130.0, "2:10:00")])
def test_time_left_comes_from_the_last_steps(tmp_path: Path, seconds: float, eta: str):
    progress = RunProgress(tmp_path, 100)
    append(tmp_path / "metrics.jsonl", metrics_row(40, **{"seconds/step": seconds}))
    progress.update()
    assert progress.facts()["eta"] == eta


def test_the_live_view_shows_figures_and_the_last_warning(tmp_path: Path):
    console = Console(file=io.StringIO(), force_terminal=True, width=120, height=30)
    display = LiveDisplay(RunProgress(tmp_path, 60), console, Clock())
    append(tmp_path / "metrics.jsonl", metrics_row(12))
    append(tmp_path / "eval.jsonl", evaluation_row(0, 0.4), evaluation_row(10, 0.6))
    line = Message("line", b"12:00:00 WARNING actors: slow\n", NOON, "actor.1", None)
    display.write(line)
    display.tick()
    display.close()
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "step 12/60" in shown
    assert "reward 0.534" in shown
    assert "held-out accuracy 0.400 -> 0.600" in shown
    assert "actor.1: 12:00:00 WARNING actors: slow" in shown


def test_a_role_cannot_style_the_terminal(tmp_path: Path):
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    display = LiveDisplay(RunProgress(tmp_path, 60), console, Clock())
    display.write(Message("line", b"[bold]not bold[/bold]\n", NOON, "actor.1", None))
    display.close()
    assert "[bold]not bold[/bold]" in console.file.getvalue()  # type: ignore[attr-defined]


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
