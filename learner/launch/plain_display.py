"""Where there is no terminal, or a dumb one: roles' lines, and now and then how far the run is."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

from honcho.printer import Message, Printer

from learner.launch.progress import RunProgress
from learner.launch.role_line import read_line

PLAIN_SECONDS = 2.0
"""A plain line of progress comes at most this often."""
LOOK_SECONDS = 0.1
"""The run folder is looked into at most this often, however many lines come."""


class PlainDisplay(Printer):
    """Roles' lines as honcho prints them, and a line of progress every few seconds."""

    def __init__(
        self,
        progress: RunProgress,
        output: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(output or sys.stdout, colour=False)
        self._progress = progress
        self._clock = clock
        self._looked_at = self._printed_at = float("-inf")
        self._news = False

    def write(self, message: Message) -> None:
        """Print a role's line."""
        line = read_line(message, self.time_format)
        self._print(f"{line.time} {line.process.ljust(self.width)} | {line.text}")

    def tick(self) -> None:
        """Look into the run folder, and print where the run is when that is due."""
        now = self._clock()
        if now - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = now
        self._news = self._progress.update() or self._news
        if self._news and now - self._printed_at >= PLAIN_SECONDS:
            self._print_step()

    def close(self) -> None:
        """Print what is left to say."""
        if self._progress.update() or self._news:
            self._print_step()

    def _print_step(self) -> None:
        self._news, self._printed_at = False, self._clock()
        progress = self._progress
        facts = " ".join(f"{name} {text}" for name, text in progress.facts().items())
        self._print(f"step {progress.step}/{progress.max_steps} {facts}")

    def _print(self, line: str) -> None:
        self.output.write(line + "\n")
        self.output.flush()
