import datetime

import pytest
from honcho.printer import Message

from learner.launch.role_line import clean, read_line

NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)


def line(data: bytes | str, name: str = "actor.1"):
    return read_line(Message("line", data, NOON, name, None))


@pytest.mark.parametrize(
    ("hostile", "harmless"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("up\x1b[5A\x1b[2Kgone", "upgone"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x/\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPq#0\x1b\\sixel", "sixel"),
        ("\x9b2Jc1", "c1"),
        ("\x9d0;title\x9cc1", "c1"),
        ("\x1b]0;never ended, and all is shown", "0;never ended, and all is shown"),
        ("\x1bcreset\x1b(0set", "resetset"),
        ("a\x1b", "a"),
        ("a\x1b\x1b[31mb", "ab"),
        ("a\x08\x08\x07\x00b", "ab"),
        ("a\rb\tc\vd\u2028e", "a b c d e"),
        ("\u202eright to left\u2066\u200b", "right to left"),
        ("grüße 日本 🎉 [bold]", "grüße 日本 🎉 [bold]"),
    ],
)
def test_nothing_is_left_that_could_drive_a_terminal(hostile: str, harmless: str):
    assert clean(hostile) == harmless


def test_what_is_left_after_an_escape_sequence_is_none_either():
    assert "\x1b" not in clean("\x1b\x1b[0m[2J\x1b[" + "\x1b" * 50)


def test_cleaning_a_line_made_to_be_slow_is_fast():
    assert len(clean("\x1b]" * 100_000)) < 200_000
    assert len(clean("\x1b[" + "0" * 200_000)) <= 200_001


def test_a_log_line_is_taken_apart():
    found = line(b"12:00:01 WARNING learner.health: no reward\n", "learner.1")
    assert (found.process, found.time, found.level) == ("learner.1", "12:00:00", "WARNING")
    assert found.message == "learner.health: no reward"
    assert found.text == "12:00:01 WARNING learner.health: no reward"
    assert found.is_grave


@pytest.mark.parametrize(
    ("text", "name", "level"),
    [
        ("12:00:01 INFO    learner: fine", "learner.1", "INFO"),
        ("2026-01-01 12:00:01,123 ERROR   actors: bad", "actor.1", "ERROR"),
        ("the word WARNING in a text", "actor.1", "INFO"),
        ("error: out of memory", "actor.1", "ERROR"),
        ("actor.1 was killed by SIGKILL; starting it again in 0.5 s", "system", "WARNING"),
        ("actor.1 was killed by SIGKILL", "actor.1", "INFO"),
        ("reward_worker.1 ended with code 1", "system", "WARNING"),
        ("reward_worker.1 ended with code 0", "system", "INFO"),
    ],
)
def test_how_grave_a_line_is(text: str, name: str, level: str):
    assert line(text, name).level == level


def test_bytes_that_are_no_text_are_shown_as_such():
    assert line(b"\xff\xfe ok\n").text == "\ufffd\ufffd ok"
