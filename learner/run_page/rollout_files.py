"""The files of a run's rollouts: which steps there are, and where their lines begin."""

import os
import re
import threading
import time
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_NAME = re.compile(r"step_([0-9]{1,12})\.jsonl")
_CHUNK_BYTES = 1 << 20
_READ_BYTES = 1 << 17
_KEPT_INDEXES = 64
_SETTLED_SECONDS = 2
"""Two changes of a folder may have the same time; not when the second comes so much later."""

Stamp = tuple[int, int, int]


class RolloutFiles:
    """A run's rollouts/ folder. Thread-safe.

    What is known of a step is kept as long as inode, size and time of its file stay.

    Args:
        folder: may come later.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._indexes: OrderedDict[int, tuple[Stamp, array[int]]] = OrderedDict()
        self._counts: dict[int, tuple[Stamp, int]] = {}
        self._total: tuple[int | None, int] = (None, 0)

    def steps(self) -> list[int]:
        """Steps that have rollouts, oldest first."""
        return sorted(self._names())

    def lines(self, step: int, first: int = 0) -> Iterator[tuple[int, bytes]]:
        """A step's lines with their numbers, from one on; none where the file is gone."""
        try:
            starts = self.starts(step) if first else array("q", (0,))
            if first >= len(starts):
                return
            with self._path(step).open("rb", buffering=_READ_BYTES) as file:
                file.seek(starts[first])
                yield from enumerate(file, start=first)
        except OSError:
            return

    def line(self, step: int, number: int) -> bytes | None:
        """One line; None where there is none."""
        return next((line for _, line in self.lines(step, number)), None)

    def starts(self, step: int) -> "array[int]":
        """Where each of a step's lines begins.

        Raises:
            OSError: the step has no rollouts.
        """
        stamp = _stamp(os.stat(self._path(step)))
        with self._lock:
            kept = self._indexes.get(step)
            if kept is not None and kept[0] == stamp:
                self._indexes.move_to_end(step)
                return kept[1]
        starts = _line_starts(self._path(step))
        with self._lock:
            self._indexes[step] = (stamp, starts)
            self._counts[step] = (stamp, len(starts))
            if len(self._indexes) > _KEPT_INDEXES:
                self._indexes.popitem(last=False)
        return starts

    def num_lines(self, step: int) -> int:
        """How many lines a step has; 0 where it has no rollouts."""
        try:
            return len(self.starts(step))
        except OSError:
            return 0

    def count(self, seconds: float) -> tuple[int, bool]:
        """How many rollouts there are, and whether all were counted.

        Args:
            seconds: for reading files that were not counted yet; the next call goes on with others.
                What is left then is estimated by its bytes.
        """
        changed = self._settled()
        if changed is not None and changed == self._total[0]:
            return self._total[1], True
        until = time.monotonic() + seconds
        num_lines = num_bytes = bytes_left = 0
        for step, path in sorted(self._names().items(), reverse=True):
            try:
                stamp = _stamp(os.stat(path))
                counted = self._counts.get(step)
                if counted is None or counted[0] != stamp:
                    if time.monotonic() >= until:
                        bytes_left += stamp[1]
                        continue
                    counted = self._counts[step] = (stamp, len(_line_starts(path)))
            except OSError:
                continue
            num_lines += counted[1]
            num_bytes += stamp[1]
        if not bytes_left:
            self._total = changed, num_lines
            return num_lines, True
        return round(num_lines + bytes_left * num_lines / max(num_bytes, 1)), False

    def _settled(self) -> int | None:
        """When the folder last got or lost a file; None where that may not be the last in its time.

        Looking at each of 10,000 files costs 60 ms.
        """
        try:
            changed = os.stat(self._folder).st_mtime_ns
        except OSError:
            return None
        return changed if time.time_ns() - changed > _SETTLED_SECONDS * 10**9 else None

    def _names(self) -> dict[int, str]:
        try:
            with os.scandir(self._folder) as entries:
                found = [(_NAME.fullmatch(entry.name), entry.path) for entry in entries]
        except OSError:
            return {}
        names = {int(name[1]): path for name, path in found if name is not None}
        return {step: path for step, path in names.items() if path.endswith(_name(step))}

    def _path(self, step: int) -> Path:
        return self._folder / _name(step)


def _name(step: int) -> str:
    return f"step_{step:06d}.jsonl"


def _stamp(facts: os.stat_result) -> Stamp:
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _line_starts(path: str | Path) -> "array[int]":
    starts, offset = array("q"), 0
    begins = True
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            if begins:
                starts.append(offset)
            ends = np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n")) + (offset + 1)
            offset += len(chunk)
            begins = bool(len(ends)) and int(ends[-1]) == offset
            starts.extend(ends[: len(ends) - begins].tolist())
    return starts
