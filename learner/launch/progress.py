"""What mlx-train shows: a live view on a terminal, plain lines elsewhere, a summary at the end.

The figures come from the run folder's metrics.jsonl and eval.jsonl, read as they grow; the lines
come from the roles, through honcho. Nothing here has a thread: the launcher's loop calls `tick`.
"""

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TextIO

from honcho.printer import Message, Printer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from protocol.config import RunConfig

PLAIN_SECONDS = 2.0
"""A plain line of progress comes at most this often."""
_LIVE_SECONDS = 0.25
_ETA_ROWS = 20
_UNKNOWN = "-"


class JsonlTail:
    """The complete rows that were appended to a JSONL file since the last look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[dict[str, Any]]:
        """Return new rows; a file that shrank (a run resumed) is read from its start again."""
        try:
            with self._path.open("rb") as file:
                if file.seek(0, 2) < self._offset:
                    self._offset = 0
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return []
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        return list(_rows(complete.splitlines()))


class RunProgress:
    """How far a run is, from its folder.

    Args:
        run_dir: the folder.
        max_steps: of the run.
        since: seconds since 1970; steps before are an earlier start's, and no news.
    """

    def __init__(self, run_dir: Path, max_steps: int, since: float = 0.0) -> None:
        self.max_steps = max_steps
        self.accuracies: list[tuple[float, int]] = []
        """(held-out accuracy, number of prompts), oldest first."""
        self._since = since
        self._rows: deque[dict[str, Any]] = deque(maxlen=_ETA_ROWS)
        self._metrics = JsonlTail(run_dir / "metrics.jsonl")
        self._evaluations = JsonlTail(run_dir / "eval.jsonl")

    def update(self) -> bool:
        """Read what is new; returns whether a step was among it."""
        for row in self._evaluations.read():
            if row.get("evaluator") == "accuracy" and _is_number(row.get("accuracy")):
                self.accuracies.append((row["accuracy"], int(row.get("n") or 0)))
        steps = [row for row in self._metrics.read() if (row.get("time") or 0.0) >= self._since]
        self._rows.extend(steps)
        return bool(steps)

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self._value("step") or 0)

    def facts(self) -> dict[str, str]:
        """The last step's figures as text, by the word that stands before each."""
        return {
            "reward": _figure(self._value("reward/mean"), ".3f"),
            "loss": _figure(self._value("loss"), ".4f"),
            "tokens/s": _figure(self._value("tokens_per_second"), ".0f"),
            "actors": _figure(self._value("peers/actor"), ".0f"),
            "reward_workers": _figure(self._value("peers/reward_worker"), ".0f"),
            "eta": self._eta(),
        }

    def accuracy_line(self) -> str:
        """Held-out accuracy before -> after, with the number of prompts; empty before the first."""
        if not self.accuracies:
            return ""
        (first, num_first), (last, num_last) = self.accuracies[0], self.accuracies[-1]
        if len(self.accuracies) == 1:
            return f"held-out accuracy {first:.3f} (n {num_first})"
        count = str(num_last) if num_first == num_last else f"{num_first}, then {num_last}"
        return f"held-out accuracy {first:.3f} -> {last:.3f} ({last - first:+.3f}, n {count})"

    def _value(self, key: str) -> float | None:
        value = self._rows[-1].get(key) if self._rows else None
        return value if _is_number(value) else None

    def _eta(self) -> str:
        lengths = [row["seconds/step"] for row in self._rows if _is_number(row.get("seconds/step"))]
        if not lengths:
            return _UNKNOWN
        seconds = int(sum(lengths) / len(lengths) * max(self.max_steps - self.step, 0))
        hours, minutes = seconds // 3600, seconds // 60 % 60
        return (f"{hours}:{minutes:02d}" if hours else str(minutes)) + f":{seconds % 60:02d}"


class PlainDisplay(Printer):
    """Roles' lines as honcho prints them, and a line of progress every few seconds."""

    def __init__(
        self,
        progress: RunProgress,
        output: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(output or sys.stdout)
        self._progress = progress
        self._clock = clock
        self._printed_at = float("-inf")
        self._news = False

    def tick(self) -> None:
        """Look into the run folder, and print where the run is when that is due."""
        self._news = self._progress.update() or self._news
        if self._news and self._clock() - self._printed_at >= PLAIN_SECONDS:
            self._print_step()

    def close(self) -> None:
        """Print what is left to say."""
        if self._progress.update() or self._news:
            self._print_step()

    def _print_step(self) -> None:
        self._news, self._printed_at = False, self._clock()
        progress = self._progress
        facts = " ".join(f"{name} {text}" for name, text in progress.facts().items())
        line = f"step {progress.step}/{progress.max_steps} {facts}\n"
        self.output.write(line)
        self.output.flush()


class LiveDisplay(Printer):
    """A progress bar with figures that stays at the bottom; roles' lines run above it."""

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
        self._drawn_at = float("-inf")
        self._warning = ""
        self._live = Live(console=self._console, auto_refresh=False)
        self._live.start()

    def write(self, message: Message) -> None:
        """Print a role's line above the view."""
        data = message.data
        text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
        name = (message.name or "").ljust(self.width)
        for line in text.splitlines():
            prefix = Text(f"{message.time.strftime(self.time_format)} {name}| ", style="cyan")
            self._console.print(prefix + Text(line), soft_wrap=True)
            if " WARNING " in line or " ERROR " in line:
                self._warning = f"{message.name}: {line}"

    def tick(self) -> None:
        """Look into the run folder, and draw the view when that is due."""
        news = self._progress.update()
        if news or self._clock() - self._drawn_at >= _LIVE_SECONDS:
            self._drawn_at = self._clock()
            self._live.update(self._view(), refresh=True)

    def close(self) -> None:
        """Draw once more and give the terminal back."""
        self._progress.update()
        self._live.update(self._view(), refresh=True)
        self._live.stop()

    def _view(self) -> RenderableType:
        progress = self._progress
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            Text(f"step {progress.step}/{progress.max_steps}", style="bold"),
            ProgressBar(total=progress.max_steps, completed=progress.step, width=40),
        )
        lines = [Text("  ".join(f"{name} {text}" for name, text in progress.facts().items()))]
        if progress.accuracies:
            lines.append(Text(progress.accuracy_line(), style="green"))
        if self._warning:
            lines.append(Text(self._warning, style="yellow", overflow="ellipsis", no_wrap=True))
        return Group(bar, *lines)


Display = PlainDisplay | LiveDisplay


def choose_display(config: RunConfig, run_dir: Path) -> Display:
    """Return the live view when standard output is a terminal, else the plain one."""
    progress = RunProgress(run_dir, config.run.max_steps, since=time.time())
    return LiveDisplay(progress) if sys.stdout.isatty() else PlainDisplay(progress)


def summary(run_dir: Path) -> list[str]:
    """Return the closing lines: held-out accuracy before -> after, run folder, last checkpoint."""
    if not run_dir.is_dir():
        return []
    progress = RunProgress(run_dir, max_steps=0)
    progress.update()
    checkpoint = _last_checkpoint(run_dir)
    last = f"last checkpoint {checkpoint}" if checkpoint else "no checkpoint"
    return [*filter(None, [progress.accuracy_line()]), f"run folder {run_dir}", last]


def how_to_go_on(run_dir: Path) -> str:
    """The line for a run that failed."""
    is_saved = _last_checkpoint(run_dir) is not None
    what = "to go on from there" if is_saved else "to begin anew in that folder"
    return f"{what}: the same command with --resume"


def _last_checkpoint(run_dir: Path) -> Path | None:
    return max(run_dir.glob("checkpoints/step_*[0-9]"), default=None)


def _rows(lines: Iterable[bytes]) -> Iterable[dict[str, Any]]:
    for line in lines:
        try:
            row: object = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _figure(value: float | None, form: str) -> str:
    return _UNKNOWN if value is None else format(value, form)
