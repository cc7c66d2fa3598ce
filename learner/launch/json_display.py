"""`mlx-train --log-format json`: every line of standard output is one JSON object.

Roles' lines are log records; their `process` is honcho's name of it. mlx-train's own objects have
an `event`: "progress" at most every 2 s, and at the end "summary" and, if it failed, "error".
"""

import datetime
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from honcho.printer import Message, Printer

from learner.launch.progress import RunProgress
from learner.launch.role_line import decoded, read_line

PROGRESS_SECONDS = 2.0
"""An object of progress comes at most this often."""
LOOK_SECONDS = 0.1
"""The run folder is looked into at most this often, however many lines come."""

RECORD_KEYS = ("time", "level", "logger", "message", "exception")
"""Of a role's record, which are passed on: `event` is mlx-train's alone."""


class JsonDisplay(Printer):
    """Roles' lines and progress as JSON lines."""

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
        """Print a role's line: its own record, or one around what is no record."""
        record = _record(decoded(message))
        if record is None:
            line = read_line(message)
            record = {"time": now(), "level": line.level, "message": line.message}
        write_object({**record, "process": message.name}, self.output)

    def tick(self) -> None:
        """Look into the run folder, and print where the run is when that is due."""
        clock = self._clock()
        if clock - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = clock
        self._news = self._progress.update() or self._news
        if self._news and clock - self._printed_at >= PROGRESS_SECONDS:
            self._print_step()

    def close(self) -> None:
        """Print what is left to say."""
        if self._progress.update() or self._news:
            self._print_step()

    def _print_step(self) -> None:
        self._news, self._printed_at = False, self._clock()
        write_event("progress", progress_figures(self._progress), self.output)


def progress_figures(progress: RunProgress) -> dict[str, Any]:
    """What an object of progress says; null for what is not known."""
    value = progress.value
    accuracy = progress.accuracies[-1][0] if progress.accuracies else None
    return {
        "step": progress.step,
        "max_steps": progress.max_steps,
        "policy_version": value("policy_version"),
        "reward": value("reward/mean"),
        "rewards": {name: value(f"reward/{name}/mean") for name in progress.rewards},
        "loss": value("loss"),
        "heldout_accuracy": accuracy,
        "tokens_per_second": value("tokens_per_second"),
        "samples_per_second": value("samples_per_second"),
        "seconds_per_step": value("seconds/step"),
        "eta_seconds": progress.eta_seconds(),
        "time_shares": progress.time_shares(),
        "staleness": {"mean": value("staleness/mean"), "max": value("staleness/max")},
        "peers": {role: value(f"peers/{role}") for role in progress.wanted},
        "idle": {role: value(f"idle/{role}") for role in progress.wanted},
    }


def write_event(event: str, facts: Mapping[str, Any], output: TextIO | None = None) -> None:
    """Print one of mlx-train's own objects."""
    write_object({"time": now(), "event": event, **facts}, output or sys.stdout)


def write_object(tree: Mapping[str, Any], output: TextIO) -> None:
    """Print one line; ASCII, so that no text can drive a terminal or fail to be encoded."""
    output.write(json.dumps(tree, allow_nan=False) + "\n")
    output.flush()


def now() -> str:
    """The time as every line has it."""
    stamp = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    return stamp.replace("+00:00", "Z")


def _record(text: str) -> dict[str, str] | None:
    """What a role's logging wrote; None for any other line, JSON or not."""
    if not text.startswith("{"):
        return None
    try:
        row: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not {"time", "level", "message"} <= row.keys():
        return None
    record = {key: row[key] for key in RECORD_KEYS if key in row}
    return record if all(isinstance(value, str) for value in record.values()) else None
