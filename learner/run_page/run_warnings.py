"""The last warnings in a run's logs; one that comes again and again is told once."""

import os
import re
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MAX_WARNINGS = 20
_MAX_LOGS = 64
_TAIL_BYTES = 64 << 10
_MAX_TEXT = 500
_LINE = re.compile(
    r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3}) (?:WARNING|ERROR|CRITICAL) +(.*)", re.ASCII
)
"""See protocol.telemetry.PLAIN_FORMAT."""
_NUMBER = re.compile(r"\d[\d.,]*")
"""Two warnings that differ in numbers alone say the same."""

Warnings = list[dict[str, Any]]


class RunWarnings:
    """A run's logs/ folder; a log is read again only when it has changed. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._known: dict[Path, tuple[tuple[int, int], Warnings]] = {}

    def newest(self) -> Warnings:
        """The last of {time (seconds since 1970), process, text, count}, newest last.

        `count` is how often a log's end says it; time and text are the last one's.
        """
        with self._lock:
            stamps = sorted(_stamps(self._folder), reverse=True)[:_MAX_LOGS]
            before, self._known = self._known, {}
            for changed, num_bytes, path in stamps:
                stamp = (changed, num_bytes)
                kept = before.get(path)
                if kept is None or kept[0] != stamp:
                    kept = stamp, _read(path)
                self._known[path] = kept
            found = [warning for _, warnings in self._known.values() for warning in warnings]
        return sorted(found, key=lambda warning: warning["time"])[-MAX_WARNINGS:]


def _stamps(folder: Path) -> list[tuple[int, int, Path]]:
    found: list[tuple[int, int, Path]] = []
    for path in folder.glob("*.log"):
        try:
            facts = path.stat()
        except OSError:
            continue
        found.append((facts.st_mtime_ns, facts.st_size, path))
    return found


def _read(path: Path) -> Warnings:
    try:
        with path.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - _TAIL_BYTES, 0))
            lines = file.read(_TAIL_BYTES).decode(errors="replace").split("\n")
    except OSError:
        return []
    matches = filter(None, map(_LINE.fullmatch, lines))
    warnings = [_warning(path.stem, found) for found in matches]
    return _folded(warning for warning in warnings if warning is not None)[-MAX_WARNINGS:]


def _folded(warnings: Iterable[dict[str, Any]]) -> Warnings:
    newest: dict[str, dict[str, Any]] = {}
    for warning in warnings:
        key = _NUMBER.sub("#", warning["text"])
        before = newest.pop(key, None)  # it goes to the end
        newest[key] = {**warning, "count": before["count"] + 1 if before else 1}
    return list(newest.values())


def _warning(process: str, found: re.Match[str]) -> dict[str, Any] | None:
    try:
        seconds = time.mktime(time.strptime(found[1], "%Y-%m-%d %H:%M:%S"))
    except (ValueError, OverflowError):
        return None
    return {
        "time": seconds + int(found[2]) / 1000,
        "process": process,
        "text": found[3][:_MAX_TEXT],
    }
