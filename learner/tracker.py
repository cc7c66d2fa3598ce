"""What a tracker is: figures of steps and evaluations in, somebody's dashboard out.

To add one, add learner/trackers/<name>.py with a function decorated by `@tracker("<name>")`: it
takes by keyword what a config may set and returns a Tracker. It imports what it needs, and refuses
what it cannot use, but begins nothing: `--check` calls it too.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from learner.tracker_names import evaluation_figures, step_figures
from protocol.config_section import PluginConfig
from protocol.errors import ConfigError
from protocol.registry import Registry

log = logging.getLogger("learner.tracker")

MAX_WAITING = 1000
"""Rows that wait for a tracker; more are left out."""

END_SECONDS = 10.0
"""For a tracker to hand over what it has, at the end of a whole run: a network may be gone."""

EARLY_END_SECONDS = 1.5
"""The same where a run ends early; protocol/process.py has the bound of the process."""


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of the run."""

    name: str
    folder: Path
    """The run folder; a tracker keeps its files in a folder of its own there."""
    config: Mapping[str, Any]
    """The resolved tree, as JSON could hold it."""
    step: int
    """That the run goes on from: what a tracker has of later steps will come again."""


class Tracker(Protocol):
    """One place to report to. Everything is called in one thread, which is no other tracker's.

    Whatever it raises is logged, and it hears nothing of the run from then on but `close`.
    """

    def start(self, run: TrackedRun) -> None:
        """Begin, or go on; comes first, and may take long."""
        ...

    def log(self, step: int, figures: Mapping[str, float], time: float) -> None:
        """Report figures, all finite, under the names of learner/tracker_names.py.

        Args:
            step: of training; several calls may have the same, and an earlier one comes again after
                a resume.
            figures: of a step, or of an evaluation.
            time: Unix seconds.
        """
        ...

    def close(self, seconds: float) -> None:
        """Hand over what is left and end, within so many seconds."""
        ...


tracker: Registry[Callable[..., Tracker]] = Registry("tracker", "learner.trackers")
"""Decorator and table of all trackers."""


def make_trackers(sections: Iterable[PluginConfig]) -> dict[str, Tracker]:
    """Trackers that a config's `report_to` names, none of them begun.

    Raises:
        UnknownPluginError: no tracker of that name.
        ConfigError: a parameter that it does not take, a package that is not installed, or one
            tracker named twice.
    """
    made: dict[str, Tracker] = {}
    for section in sections:
        if section.name in made:
            raise ConfigError(f"report_to names {section.name} twice: name it once")
        plugin = tracker.check(section.name, section.parameters, frozenset())
        made[section.name] = plugin(**section.parameters)
    return made


class Trackers:
    """Trackers of a run, by name. Nothing here waits for one but `close`."""

    def __init__(self, trackers: Mapping[str, Tracker] = MappingProxyType({})) -> None:
        self._lanes = [_Lane(name, each) for name, each in trackers.items()]

    def start(self, run: TrackedRun) -> None:
        """Begin them all, each in a thread of its own."""
        for lane in self._lanes:
            lane.start(run)

    def log_step(self, row: Mapping[str, Any]) -> None:
        """Report a row of metrics.jsonl."""
        self._put(row, step_figures)

    def log_evaluations(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Report rows of eval.jsonl."""
        for row in rows:
            self._put(row, evaluation_figures)

    def close(self, seconds: float) -> None:
        """Let them end; whoever takes longer is left behind, and told. May be called again."""
        deadline = time.monotonic() + seconds
        for lane in self._lanes:
            lane.end(deadline)
        for lane in self._lanes:
            lane.join(deadline)

    def _put(
        self, row: Mapping[str, Any], figures: Callable[[Mapping[str, Any]], dict[str, float]]
    ) -> None:
        if self._lanes:
            entry = _Entry(row["step"], figures(row), row["time"])
            for lane in self._lanes:
                lane.put(entry)


@dataclass(frozen=True)
class _Entry:
    step: int
    figures: Mapping[str, float]
    time: float


class _Lane:
    """One tracker, its thread, and the rows that wait for it."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self._name = name
        self._tracker = tracker
        self._waiting: queue.Queue[_Entry | None] = queue.Queue(MAX_WAITING)
        self._thread: threading.Thread | None = None
        self._deadline: float | None = None
        self._failed = False
        self._num_left_out = 0

    def start(self, run: TrackedRun) -> None:
        name = f"tracker-{self._name}"
        self._thread = threading.Thread(target=self._work, args=(run,), name=name, daemon=True)
        self._thread.start()

    def put(self, entry: _Entry) -> None:
        if self._failed:
            return
        try:
            self._waiting.put_nowait(entry)
        except queue.Full:
            if not self._num_left_out:
                log.warning(
                    "tracker %s is %d rows behind: rows are left out until it follows",
                    *(self._name, MAX_WAITING),
                )
            self._num_left_out += 1

    def end(self, deadline: float) -> None:
        if self._deadline is None:
            self._deadline = deadline
            self._put_end()

    def _put_end(self) -> None:
        while True:
            try:
                return self._waiting.put_nowait(None)
            except queue.Full:
                with suppress(queue.Empty):
                    self._waiting.get_nowait()
                self._num_left_out += 1

    def join(self, deadline: float) -> None:
        thread, self._thread = self._thread, None
        if thread is None:
            return
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            log.warning("tracker %s did not end in time: its last rows may be missing", self._name)
        elif self._num_left_out:
            log.warning("tracker %s lacks %d rows", self._name, self._num_left_out)

    def _work(self, run: TrackedRun) -> None:
        try:
            self._tracker.start(run)
            while (entry := self._waiting.get()) is not None:
                self._tracker.log(entry.step, entry.figures, entry.time)
            self._tracker.close(self._seconds_left())
        except Exception as error:  # noqa: BLE001 - foreign code, which may raise anything
            self._failed = True
            reason = f"{type(error).__name__}: {error}"
            log.warning("tracker %s is left out from here on: %s", self._name, reason)
            with suppress(Exception):
                self._tracker.close(self._seconds_left())

    def _seconds_left(self) -> float:
        if self._deadline is None:
            return EARLY_END_SECONDS
        return max(0.0, self._deadline - time.monotonic())
