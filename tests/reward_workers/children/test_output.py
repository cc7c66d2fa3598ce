import logging
import os

import pytest

from reward_workers.children.output import OutputLog, printable


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, logger="reward_workers.children.inside")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture
async def pipe():
    """A function that writes, and a log whose clock the test sets."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    times = {"now": 0.0}
    output = OutputLog(read_end, "child 1", lambda: times["now"])

    def write(data: bytes) -> None:
        os.write(write_end, data)
        output.read()

    yield write, times, output
    output.close()
    os.close(write_end)


async def test_lines_are_logged_under_the_childs_name(pipe, said):
    write, _, output = pipe
    write(b"one\ntw")
    assert said() == ["child 1: one"]
    write(b"o\n")
    assert said() == ["child 1: one", "child 1: two"]
    assert output.last_line == "two"


async def test_a_line_without_an_end_is_logged_when_the_child_has_ended(pipe, said):
    write, _, output = pipe
    write(b"last words")
    output.close()
    assert said() == ["child 1: last words"]


async def test_only_so_many_lines_are_logged_in_a_window(pipe, said):
    write, times, _ = pipe
    write(b"x\n" * 100)
    assert len(said()) == 20
    times["now"] = 10.0
    write(b"y\n")
    assert said()[20:] == ["child 1: 80 more lines", "child 1: y"]


async def test_long_lines_are_cut(pipe, said):
    write, _, _ = pipe
    write(b"x" * 5000 + b"\n")
    assert said() == ["child 1: " + "x" * 300]


def test_what_a_terminal_would_obey_is_not_printed():
    assert printable(b"\x1b[2Jred\x07\tend\xff\r") == "?[2Jred? end\ufffd"
