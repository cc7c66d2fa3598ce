"""Files that are whole on disk or as they were, and a run that waits while the disk is full."""

import errno
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from protocol.errors import RunStopped

log = logging.getLogger("learner.disk")

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What the system says where a disk, or a user's share of it, is full."""
RETRY_SECONDS = 5.0
WAIT_SECONDS = 300.0
_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)
"""macOS: its fsync leaves the bytes in the drive's own cache."""


class Disk:
    """Writes that are undone where the disk is full, and tried again until there is room.

    Args:
        limit_seconds: how long to wait for room before the run ends.
        clock: seconds that only rise.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        limit_seconds: float = WAIT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._limit = limit_seconds
        self._clock = clock
        self._sleep = sleep

    def append(self, path: Path, text: str) -> None:
        """Add a text to a file's end, all of it or nothing.

        Raises:
            RunStopped: the disk was full for longer than the limit.
        """
        data = text.encode()
        self._when_there_is_room(path, len(data), lambda: append(path, data))

    def write_atomically(self, path: Path, text: str) -> None:
        """Replace a file, whole or not at all, also after a power cut.

        Raises:
            RunStopped: the disk was full for longer than the limit.
        """
        wanted = len(text.encode())
        self._when_there_is_room(path, wanted, lambda: write_atomically(path, text))

    def _when_there_is_room(self, path: Path, num_bytes: int, write: Callable[[], None]) -> None:
        began: float | None = None
        while True:
            try:
                write()
                break
            except OSError as error:
                if error.errno not in FULL:
                    raise
                reason = error.strerror or str(error)
            now = self._clock()
            began = now if began is None else began
            waited = now - began
            found = f"cannot write {num_bytes} bytes to {path}: {reason} ({room(path.parent)})"
            if waited >= self._limit:
                raise RunStopped(
                    f"{found}, for {waited:.0f} s: free space, then continue the run with --resume"
                )
            log.error(
                "%s; the run has waited %.0f s and ends after %.0f s: free space, and it goes on "
                "by itself",
                *(found, waited, self._limit),
            )
            self._sleep(min(RETRY_SECONDS, self._limit - waited))
        if began is not None:
            waited = self._clock() - began
            log.warning("there is room for %s again: going on after %.0f s", path, waited)


def append(path: Path, data: bytes) -> None:
    """Add bytes to a file's end; where that fails, the file is cut back to what it was."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        before = os.fstat(descriptor).st_size
        try:
            write_all(descriptor, data)
        except BaseException:
            os.ftruncate(descriptor, before)
            raise
    finally:
        os.close(descriptor)


def write_atomically(path: Path, text: str) -> None:
    """Write a file that is there whole or not at all, also after a power cut."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            write_all(descriptor, text.encode())
            sync_descriptor(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all bytes, in one call where the system takes them all at once."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        sync_descriptor(descriptor)
    finally:
        os.close(descriptor)


def sync_descriptor(descriptor: int) -> None:
    """As `sync`, of an open file."""
    if _FULL_SYNC is not None:
        try:
            fcntl.fcntl(descriptor, _FULL_SYNC)
            return
        except OSError:
            pass  # network volumes and some others know only fsync
    os.fsync(descriptor)


def room(folder: Path) -> str:
    """How much space is free where a folder is, in words."""
    try:
        return f"{shutil.disk_usage(folder).free:,} bytes are free there"
    except OSError as error:
        return f"how much is free there is not known: {error}"
