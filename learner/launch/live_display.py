"""A terminal: a view of the run that stays at the bottom, and roles' lines that run above it.

Lines wait until the view is drawn again, at most ten times a second: however many come, drawing
costs the same. Each drawing is one write, which takes the last view away first.
"""

import time
from collections import deque
from collections.abc import Callable

from honcho.printer import Message, Printer
from rich.console import Console
from rich.control import Control
from rich.segment import ControlType, Segment, Segments
from rich.style import Style

from learner.launch.live_view import view_lines
from learner.launch.progress import RunProgress
from learner.launch.role_line import RoleLine, read_line

LIVE_SECONDS = 0.1
"""The view is drawn at most this often ..."""
IDLE_SECONDS = 1.0
"""... and at least this often, so that the time that passes is seen to pass."""
NUM_WARNINGS = 3
_PREFIX = Style(color="cyan")
_STYLES = {"WARNING": Style(color="yellow"), "ERROR": Style(color="red")}
_ERASE = (ControlType.ERASE_IN_LINE, 2)


class LiveDisplay(Printer):
    """The live view, with roles' lines above it."""

    def __init__(
        self,
        progress: RunProgress,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console or Console()
        super().__init__(self._console.file)
        self._progress = progress
        self._clock = clock
        self._started_at = clock()
        self._looked_at = self._drawn_at = float("-inf")
        self._waiting: list[RoleLine] = []
        self._warnings: deque[RoleLine] = deque(maxlen=NUM_WARNINGS)
        self._drawn: list[int] = []
        """Cells of each line of the view on the terminal."""
        self._is_unicode = self._console.encoding.startswith("utf")

    def write(self, message: Message) -> None:
        """Take a role's line, to be printed above the view."""
        line = read_line(message, self.time_format)
        self._waiting.append(line)
        if line.is_grave:
            same = [w for w in self._warnings if _told(w) == _told(line)]
            for warning in same:  # a warning that comes again and again pushes no other out
                self._warnings.remove(warning)
            self._warnings.append(line)

    def tick(self) -> None:
        """Look into the run folder, and draw when that is due."""
        now = self._clock()
        if now - self._looked_at < LIVE_SECONDS:
            return
        self._looked_at = now
        news = self._progress.update()
        if news or self._waiting or now - self._drawn_at >= IDLE_SECONDS:
            self._draw()

    def close(self) -> None:
        """Draw once more and give the terminal back."""
        self._progress.update()
        self._draw()
        self._console.print()

    def _draw(self) -> None:
        self._drawn_at = self._clock()
        width, height = self._console.size
        lines = view_lines(
            self._progress,
            self._warnings,
            elapsed_seconds=self._drawn_at - self._started_at,
            width=width - 1,  # a full line would leave the cursor at the next one, or not
            is_unicode=self._is_unicode,
        )[: max(height - 1, 1)]
        with self._console:  # one write
            self._erase(width, height)
            self._print_waiting()
            for index, line in enumerate(lines):
                end = "" if index == len(lines) - 1 else "\n"
                self._console.print(line, end=end, no_wrap=True, crop=False, highlight=False)
        self._drawn = [line.cell_len for line in lines]

    def _erase(self, width: int, height: int) -> None:
        """Take the view away; a terminal that became narrower has broken its lines into more."""
        if not self._drawn:
            return
        rows = sum(max(-(-cells // width), 1) for cells in self._drawn)
        up = [(ControlType.CURSOR_UP, 1), _ERASE] * (min(rows, height) - 1)
        self._console.control(Control(ControlType.CARRIAGE_RETURN, _ERASE, *up))

    def _print_waiting(self) -> None:
        segments: list[Segment] = []
        for line in self._waiting:
            name = line.process.ljust(self.width)
            segments.append(Segment(f"{line.time} {name} | ", _PREFIX))
            segments.append(Segment(f"{line.text}\n", _STYLES.get(line.level)))
        self._waiting.clear()
        if segments:
            self._console.print(Segments(segments), soft_wrap=True, end="")


def _told(line: RoleLine) -> tuple[str, str]:
    return line.process, line.message
