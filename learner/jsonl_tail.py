"""A JSONL file that another process appends to, read as it grows."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

_CHUNK_BYTES = 1 << 20
_MARK_BYTES = 64


class JsonlTail:
    """The complete rows that were appended to a JSONL file since the last look.

    A file that was cut back or replaced (a run resumed) is read from its start again.
    """

    def __init__(self, path: Path) -> None:
        self.restarts = 0
        """How often the file was read from its start again."""
        self._path = path
        self._offset = 0
        self._inode = 0
        self._mark = b""
        """The last bytes before the offset: a file that was cut and has grown again has others."""

    def read(self) -> list[dict[str, Any]]:
        """Return new rows."""
        return [row for batch in self.batches() for row in batch]

    def batches(self) -> Iterator[list[dict[str, Any]]]:
        """New rows, those of about a megabyte at a time."""
        try:
            with self._path.open("rb") as file:
                self._find_place(file)
                yield from self._rows_of(file)
        except OSError:
            return

    def _find_place(self, file: BinaryIO) -> None:
        inode = os.fstat(file.fileno()).st_ino
        file.seek(max(self._offset - len(self._mark), 0))
        if self._offset and (inode != self._inode or file.read(len(self._mark)) != self._mark):
            self.restarts += 1
            self._offset, self._mark = 0, b""
            file.seek(0)
        self._inode = inode

    def _rows_of(self, file: BinaryIO) -> Iterator[list[dict[str, Any]]]:
        rest = b""
        while data := file.read(_CHUNK_BYTES):
            complete, newline, rest = (rest + data).rpartition(b"\n")
            if newline:
                self._offset += len(complete) + 1
                self._mark = (complete + newline)[-_MARK_BYTES:]
                yield list(_rows(complete.split(b"\n")))


def _rows(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            row: object = json.loads(line)
        except (ValueError, RecursionError):  # a line may be nested to any depth
            continue
        if isinstance(row, dict):
            yield row
