"""The live display as a terminal shows it: a small one that understands what is written to it."""

import datetime
import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from honcho.printer import Message
from rich.console import Console

from learner.launch.live_display import LiveDisplay
from learner.launch.progress import RunProgress

NOON = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
CODES = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|([\r\n])|([^\x1b\r\n])")


class Terminal(io.StringIO):
    """Knows text, new lines, cursor up, erased lines and colours; breaks off at anything else."""

    encoding = "utf-8"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.lines = [""]
        self.row = self.column = 0
        self.num_writes = 0

    def write(self, text: str) -> int:
        self.num_writes += 1
        at = 0
        for match in CODES.finditer(text):
            assert match.start() == at, f"not understood: {text[at : at + 20]!r}"
            at = match.end()
            self._obey(*match.groups())
        assert at == len(text)
        return len(text)

    def _obey(self, number: str | None, code: str | None, move: str | None, char: str) -> None:
        if code == "A":
            self.row = max(self.row - int(number or 1), 0)
        elif code == "K":
            self.lines[self.row] = ""
        elif move == "\r":
            self.column = 0
        elif move == "\n":
            self._next_row()
        elif code is None:
            if self.column == self.width:
                self._next_row()
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + char + line[self.column + 1 :]
            self.column += 1
        else:
            assert code == "m", f"not understood: {number}{code}"

    def _next_row(self) -> None:
        self.row, self.column = self.row + 1, 0
        if self.row == len(self.lines):
            self.lines.append("")

    def narrow(self, width: int) -> None:
        """Break lines as terminals do, the cursor staying behind the last character."""
        parts = [re.findall(f".{{1,{width}}}", line) or [""] for line in self.lines]
        self.lines = [piece for line in parts for piece in line]
        self.width, self.row, self.column = width, len(self.lines) - 1, len(self.lines[-1])


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def terminal() -> Terminal:
    return Terminal(80)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def console(terminal: Terminal) -> Console:
    environment = {"TERM": "xterm-256color"}
    return Console(file=terminal, force_terminal=True, width=80, height=30, _environ=environment)


@pytest.fixture
def display(tmp_path: Path, console: Console, clock: Clock) -> LiveDisplay:
    return LiveDisplay(RunProgress(tmp_path, 60, page="http://run/"), console, clock)


def say(display: LiveDisplay, text: str, name: str = "actor.1") -> None:
    display.write(Message("line", text.encode() + b"\n", NOON, name, None))


def test_lines_run_above_a_view_that_is_there_once(
    display: LiveDisplay, terminal: Terminal, clock: Clock
):
    for number in range(5):
        say(display, f"line {number}")
        display.tick()
        clock.now += 0.5
    display.close()
    assert terminal.lines[:5] == [f"12:00:00 actor.1 | line {number}" for number in range(5)]
    assert [line.split()[0] for line in terminal.lines[5:8]] == ["step", "reward", "run"]
    assert terminal.lines[8:] == [""]


def test_the_view_follows_the_run(
    display: LiveDisplay, terminal: Terminal, clock: Clock, tmp_path: Path
):
    display.tick()
    assert terminal.lines[0].startswith("step 0/60")
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 12, "reward/mean": 0.5}) + "\n")
    clock.now += 0.2
    display.tick()
    assert terminal.lines[0].startswith("step 12/60")
    assert terminal.lines[1] == "reward    0.500  ▅"


def test_the_last_3_warnings_stay_and_one_that_comes_again_pushes_no_other_out(
    display: LiveDisplay, terminal: Terminal
):
    for text in ("first", "second", "third", "third", "fourth", "third"):
        say(display, f"12:00:00 WARNING actors: {text}")
    display.close()
    view = "\n".join(terminal.lines[6:])
    assert re.findall(r"12:00:00 actor.1: actors: (\w+)", view) == ["second", "fourth", "third"]


def test_drawing_is_bounded_however_many_lines_come(
    display: LiveDisplay, terminal: Terminal, clock: Clock
):
    for number in range(1000):  # in a tenth of a second
        say(display, f"line {number}")
        display.tick()
        clock.now += 0.0001
    display.close()
    assert terminal.num_writes <= 4
    assert sum("| line " in line for line in terminal.lines) == 1000


def test_without_news_it_is_drawn_once_a_second(
    display: LiveDisplay, terminal: Terminal, clock: Clock
):
    for _ in range(100):  # 10 s
        display.tick()
        clock.now += 0.1
    assert 9 <= terminal.num_writes <= 11


def test_a_role_can_neither_style_nor_drive_the_terminal(display: LiveDisplay, terminal: Terminal):
    say(display, "[bold red]not bold[/] :smile: \x1b[2J\x1b[5A\x1b]0;title\x07\rerased?")
    say(display, "12:00:00 ERROR   a: \x1b[8A[red]bad[/red]")
    display.close()
    assert terminal.lines[0].endswith("| [bold red]not bold[/] :smile:  erased?")
    assert "12:00:00 actor.1: a: [red]bad[/red]" in terminal.lines


def test_a_long_line_is_whole_and_the_view_below_it_too(
    display: LiveDisplay, terminal: Terminal, clock: Clock
):
    say(display, "x" * 200)
    display.tick()
    clock.now += 2.0
    display.tick()
    assert "".join(terminal.lines[:3]).endswith("| " + "x" * 200)
    assert [line.split()[0] for line in terminal.lines[3:]] == ["step", "reward", "run"]


def test_a_terminal_that_became_narrower_shows_no_remains(
    display: LiveDisplay, terminal: Terminal, clock: Clock, console: Console
):
    say(display, "a line")
    display.tick()
    terminal.narrow(25)
    console.width = 25
    clock.now += 2.0
    display.tick()
    assert terminal.lines[0] == "12:00:00 actor.1 | a line"
    assert [line.split()[0] for line in terminal.lines[1:] if line] == [
        "step",
        "reward",
        "run",
    ]


def test_a_terminal_of_few_lines_keeps_the_head(
    tmp_path: Path, console: Console, terminal: Terminal, clock: Clock
):
    console.height = 2
    display = LiveDisplay(RunProgress(tmp_path, 60, page="http://run/"), console, clock)
    display.tick()
    assert len(terminal.lines) == 1
    assert terminal.lines[0].startswith("step 0/60")


def test_no_color_is_obeyed(tmp_path: Path, terminal: Terminal, clock: Clock):
    written = io.StringIO()
    environment = {"NO_COLOR": "1", "TERM": "xterm-256color"}
    console = Console(file=written, force_terminal=True, width=80, _environ=environment)
    display = LiveDisplay(RunProgress(tmp_path, 60), console, clock)
    say(display, "12:00:00 WARNING a: b")
    display.close()
    styles = re.findall(r"\x1b\[([0-9;]*)m", written.getvalue())
    assert styles, "bold is no colour"
    assert all(len(code) < 2 for style in styles for code in style.split(";")), styles


ON_A_TERMINAL = """
import datetime, fcntl, pathlib, struct, termios
from honcho.printer import Message
from learner.launch.live_display import LiveDisplay
from learner.launch.progress import RunProgress

def resize(width):
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))

resize(100)
now = [0.0]
display = LiveDisplay(RunProgress(pathlib.Path("nothing"), 60), clock=lambda: now[0])
line = b"12:00:00 WARNING a: " + b"w" * 200
display.write(Message("line", line, datetime.datetime(2026, 1, 1), "actor.1", None))
for width in (100, 60):
    resize(width)
    display.tick()
    now[0] += 2.0
display.close()
"""


def test_on_a_real_terminal_its_size_is_that_of_the_moment():
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color"}
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        environment.pop(name, None)
    child = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment,
    )
    os.close(slave)
    with os.fdopen(master, "rb", buffering=0) as file:
        shown = b"".join(read_terminal(file)).decode()
    assert child.wait(10) == 0, shown
    warnings = re.findall(r"00:00:00 actor\.1: a: w+…", shown)
    assert [len(warning) for warning in warnings] == [99, 59, 59]


def read_terminal(file: io.FileIO) -> Iterator[bytes]:
    while True:
        try:
            data = file.read(4096)
        except OSError:  # how Linux says that the other end is closed
            return
        if not data:
            return
        yield data
