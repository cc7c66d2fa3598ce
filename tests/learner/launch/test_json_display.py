import datetime
import io
import json
from pathlib import Path
from typing import Any

import pytest
from honcho.printer import Message

from learner.launch.json_display import JsonDisplay, write_event
from learner.launch.progress import RunProgress

NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
RECORD = {"time": "2026-01-01T12:00:00.000Z", "level": "INFO", "logger": "a", "message": "hi"}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def parse(text: str) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def shown(tmp_path: Path, *lines: bytes) -> list[dict[str, Any]]:
    output = io.StringIO()
    display = JsonDisplay(RunProgress(tmp_path, 60), output, Clock())
    for line in lines:
        display.write(Message("line", line, NOON, "actor.1", None))
    assert output.getvalue().isascii()
    return parse(output.getvalue())


def test_a_roles_record_is_passed_on_with_its_name_here(tmp_path: Path):
    record = {**RECORD, "process": "actor.4711", "exception": "Traceback"}
    (row,) = shown(tmp_path, json.dumps(record).encode() + b"\n")
    assert row == {**record, "process": "actor.1"}


def test_a_record_cannot_pass_for_an_event(tmp_path: Path):
    forged = {**RECORD, "event": "summary", "step": 9}
    (row,) = shown(tmp_path, json.dumps(forged).encode())
    assert row == {**RECORD, "process": "actor.1"}


@pytest.mark.parametrize(
    "text",
    [
        "plain text",
        '{"event": "summary"}',
        '{"time": "x", "level": "INFO", "message": 3}',
        '{"time": "x", "level": "INFO", "message": NaN}',
        '{"time": "x", "level": "INFO", "message": "cut ...',
        "[1, 2]",
        "{" * 3000,
        '{"a":' * 3000,
    ],
)
def test_a_line_that_is_no_record_is_wrapped(tmp_path: Path, text: str):
    (row,) = shown(tmp_path, text.encode() + b"\n")
    assert set(row) == {"time", "level", "message", "process"}
    assert (row["level"], row["message"], row["process"]) == ("INFO", text, "actor.1")
    assert datetime.datetime.fromisoformat(row["time"]).utcoffset() == datetime.timedelta(0)


def test_a_wrapped_line_keeps_its_level_and_no_control_characters(tmp_path: Path):
    rows = shown(tmp_path, b"12:00:00 WARNING a: slow \x1b[2J\n", b"error: no memory\n")
    assert [(row["level"], row["message"]) for row in rows] == [
        ("WARNING", "a: slow "),
        ("ERROR", "error: no memory"),
    ]


def test_one_line_of_a_role_is_one_line_whatever_is_in_it(tmp_path: Path):
    assert len(shown(tmp_path, "a\u2028b\x0cc\rd\x85e\n".encode())) == 1


def test_progress_comes_every_2_seconds_and_at_the_end(tmp_path: Path):
    output, clock = io.StringIO(), Clock()
    progress = RunProgress(tmp_path, 4, rewards=["exact"], wanted={"actor": 2})
    display = JsonDisplay(progress, output, clock)
    display.tick()
    for step, now in ((1, 100.2), (2, 100.5), (3, 102.5), (4, 103.0)):
        row = {"step": step, "reward/mean": 0.5, "reward/exact/mean": None, "seconds/step": 2.0}
        with (tmp_path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps({**row, "loss": float("nan"), "peers/actor": 1}) + "\n")
        clock.now = now
        display.tick()
    display.close()
    rows = parse(output.getvalue())
    assert [row["step"] for row in rows] == [1, 3, 4]
    assert {row["event"] for row in rows} == {"progress"}
    assert rows[0]["max_steps"] == 4
    assert (rows[0]["reward"], rows[0]["rewards"]) == (0.5, {"exact": None})
    assert (rows[0]["loss"], rows[0]["eta_seconds"]) == (None, 6.0)  # three steps of 2 s
    assert (rows[0]["peers"], rows[0]["idle"]) == ({"actor": 1}, {"actor": None})


def test_an_event_has_its_time_and_facts():
    output = io.StringIO()
    write_event("error", {"reason": "no \x1b disk\n"}, output)
    (row,) = parse(output.getvalue())
    assert row.pop("time").endswith("Z")
    assert row == {"event": "error", "reason": "no \x1b disk\n"}
