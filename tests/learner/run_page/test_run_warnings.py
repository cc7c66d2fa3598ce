import time

import pytest

from learner.run_page.run_warnings import RunWarnings
from protocol.telemetry import PLAIN_FORMAT


@pytest.fixture
def logs(run_dir):
    folder = run_dir / "logs"
    folder.mkdir()
    return folder


def line(second, level, text):
    return f"2026-11-23 21:35:{second:02d},250 {level:<7} learner.loop: {text}\n"


def test_a_run_without_logs_has_no_warnings(run_dir):
    assert RunWarnings(run_dir / "logs").newest() == []


def test_warnings_of_all_processes_come_in_the_order_of_time(logs):
    assert PLAIN_FORMAT.startswith("%(asctime)s %(levelname)-7s %(name)s: ")
    (logs / "learner.log").write_text(
        line(1, "INFO", "x") + line(5, "WARNING", "late WARNING") + line(2, "ERROR", "<b>x</b>")
    )
    (logs / "actor-a.log").write_text(
        "Traceback\n" + line(3, "CRITICAL", "y") + line(4, "DEBUG", "z")
    )
    found = RunWarnings(logs).newest()
    assert [(w["process"], w["text"]) for w in found] == [
        ("learner", "learner.loop: <b>x</b>"),
        ("actor-a", "learner.loop: y"),
        ("learner", "learner.loop: late WARNING"),
    ]
    local = time.mktime(time.strptime("2026-11-23 21:35:02", "%Y-%m-%d %H:%M:%S"))
    assert found[0]["time"] == local + 0.25


def test_only_the_last_ones_of_a_long_log_are_read(logs):
    words = ("".join(chr(97 + int(digit)) for digit in str(n)) for n in range(200))
    text = "".join(line(0, "WARNING", f"{word} " + "x" * 2000) for word in words)
    (logs / "learner.log").write_text(text)
    found = RunWarnings(logs).newest()
    assert len(found) == 20
    assert all(len(warning["text"]) == 500 for warning in found)


def test_a_log_that_has_grown_is_read_again(logs):
    warnings, path = RunWarnings(logs), logs / "learner.log"
    path.write_text(line(1, "WARNING", "a"))
    assert len(warnings.newest()) == 1
    with path.open("a") as file:
        file.write(line(2, "WARNING", "b"))
    assert [w["text"] for w in warnings.newest()] == ["learner.loop: a", "learner.loop: b"]


def test_odd_bytes_and_impossible_times_are_no_news(logs):
    (logs / "learner.log").write_bytes(
        b"\xff\x00\n" + b"9999-99-99 99:99:99,000 WARNING x: y\n" + b"2026-11-23 21:35"
    )
    (logs / "folder.log").mkdir()
    assert RunWarnings(logs).newest() == []


def test_what_is_said_again_and_again_is_one_warning_and_pushes_none_out(logs):
    text = line(1, "WARNING", "lost actor-1: its connection ended")
    text += "".join(line(2 + n % 50, "WARNING", f"step {n}: reward 1.{n}") for n in range(100))
    (logs / "learner.log").write_text(text)
    found = RunWarnings(logs).newest()
    assert [(w["text"], w["count"]) for w in found] == [
        ("learner.loop: lost actor-1: its connection ended", 1),
        ("learner.loop: step 99: reward 1.99", 100),
    ]
