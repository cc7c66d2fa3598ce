import datetime
import io
import json
from pathlib import Path
from typing import Any

from honcho.printer import Message

from learner.launch.plain_display import PlainDisplay
from learner.launch.progress import RunProgress

NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


def append(path: Path, *rows: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def metrics_row(step: int) -> dict[str, Any]:
    return {
        "step": step,
        "reward/mean": 0.534,
        "loss": -0.01234,
        "tokens_per_second": 812.4,
        "peers/actor": 2,
        "peers/reward_worker": 1,
        "seconds/step": 2.0,
    }


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_says_where_the_run_is(tmp_path: Path):
    output, clock = io.StringIO(), Clock()
    display = PlainDisplay(RunProgress(tmp_path, 60), output, clock)
    display.tick()
    assert output.getvalue() == ""
    append(tmp_path / "metrics.jsonl", metrics_row(12))
    clock.now += 0.2
    display.tick()
    assert output.getvalue() == (
        "step 12/60 reward 0.534 loss -0.0123 tokens/s 812 actors 2 reward_workers 1 eta 1:36\n"
    )  # 48 steps of 2 s


def test_lines_come_every_few_seconds_and_the_last_one_always(tmp_path: Path):
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


def test_a_roles_line_comes_with_time_and_name_and_without_control_characters(tmp_path: Path):
    output = io.StringIO()
    display = PlainDisplay(RunProgress(tmp_path, 60), output, Clock())
    display.width = len("learner.1")
    display.write(Message("line", b"a\x1b[2Jb\rc\n", NOON, "actor.1", None))
    assert output.getvalue() == "12:00:00 actor.1   | ab c\n"
