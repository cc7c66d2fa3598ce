"""Writes to a disk that fills up: undone, waited for, given up in the end; never half there."""

import errno
import fcntl
import logging
import os

import pytest

from learner.disk import RETRY_SECONDS, Disk, append, room, sync, write_all, write_atomically
from protocol.errors import RunStopped


class Clock:
    """Seconds that pass only in sleep; calls what is due then."""

    def __init__(self):
        self.now = 1000.0
        self.slept = []
        self.each = lambda: None

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds
        self.each()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def disk(clock):
    return Disk(20.0, lambda: clock.now, clock.sleep)


@pytest.fixture
def full(monkeypatch):
    """A disk that takes so many bytes more; `free` is how many."""

    class Space:
        free = 10**9
        error = errno.ENOSPC

        @classmethod
        def write(cls, descriptor, data):
            if not cls.free:
                raise OSError(cls.error, os.strerror(cls.error))
            number = real(descriptor, bytes(data)[: cls.free])
            cls.free -= number
            return number

    real = os.write
    monkeypatch.setattr(os, "write", Space.write)
    return Space


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("free", [0, 1, 5])
def test_a_row_for_which_there_is_no_room_leaves_the_file_as_it_was(tmp_path, full, free):
    path = tmp_path / "metrics.jsonl"
    append(path, b"before\n")
    full.free = free
    with pytest.raises(OSError, match="No space left"):
        append(path, b"a row\n")
    assert path.read_bytes() == b"before\n"


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EDQUOT])
def test_a_row_is_written_once_there_is_room(tmp_path, full, disk, clock, caplog, reason):
    caplog.set_level(logging.WARNING, "learner.disk")
    path = tmp_path / "metrics.jsonl"
    disk.append(path, "before\n")
    full.free, full.error = 3, reason
    seen = []

    def each():
        seen.append(path.read_text())
        full.free = 10**9 if len(seen) == 3 else 2

    clock.each = each
    disk.append(path, "a row\n")
    assert path.read_text() == "before\na row\n"
    assert seen == ["before\n"] * 3
    assert clock.slept == [RETRY_SECONDS] * 3
    *waits, last = [record.getMessage() for record in caplog.records]
    for seconds, text in zip((0, 5, 10), waits, strict=True):
        assert text.startswith(f"cannot write 6 bytes to {path}: {os.strerror(reason)} (")
        assert "bytes are free there" in text
        assert f"the run has waited {seconds} s and ends after 20 s: free space" in text
    assert last == f"there is room for {path} again: going on after 15 s"


@pytest.mark.parametrize("what", ["append", "write_atomically"])
def test_the_run_ends_when_there_is_no_room_for_too_long(tmp_path, full, disk, clock, what):
    path = tmp_path / "metrics.jsonl"
    disk.append(path, "before\n")
    full.free = 0
    with pytest.raises(RunStopped, match=r"for 20 s: free space, then continue .* --resume"):
        getattr(disk, what)(path, "a row\n")
    assert sum(clock.slept) == 20.0
    assert path.read_text() == "before\n"
    assert names(tmp_path) == ["metrics.jsonl"]


def test_a_limit_that_is_shorter_than_the_pause_is_kept(tmp_path, full, clock):
    full.free = 0
    with pytest.raises(RunStopped, match="for 2 s"):
        Disk(2.0, lambda: clock.now, clock.sleep).append(tmp_path / "x", "a row\n")
    assert clock.slept == [2.0]


def test_a_file_is_replaced_once_there_is_room(tmp_path, full, disk, clock):
    path = tmp_path / "step_000001.jsonl"
    disk.write_atomically(path, "old\n")
    full.free = 2
    clock.each = lambda: setattr(full, "free", 10**9)
    disk.write_atomically(path, "new\n")
    assert path.read_text() == "new\n"
    assert names(tmp_path) == ["step_000001.jsonl"]


def test_another_error_is_not_waited_for(tmp_path, disk, clock):
    with pytest.raises(FileNotFoundError):
        disk.append(tmp_path / "missing" / "x", "a row\n")
    assert clock.slept == []


def test_an_end_in_the_middle_of_a_row_leaves_none(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    append(path, b"before\n")
    real = os.write

    def stopped(descriptor, data):
        real(descriptor, bytes(data)[:2])
        raise RunStopped("told to end by SIGTERM")

    monkeypatch.setattr(os, "write", stopped)
    with pytest.raises(RunStopped):
        append(path, b"a row\n")
    assert path.read_bytes() == b"before\n"


def test_a_row_is_one_write(tmp_path, monkeypatch):
    written = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: written.append(bytes(data)) or real(fd, data))
    append(tmp_path / "x", b"a row\n")
    assert written == [b"a row\n"]


def test_what_the_system_takes_in_parts_is_written_whole(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:3]))
    with (tmp_path / "x").open("wb") as file:
        write_all(file.fileno(), b"0123456789")
    assert (tmp_path / "x").read_bytes() == b"0123456789"


@pytest.mark.parametrize("failing", ["fsync", "replace", "write"])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, failing):
    path = tmp_path / "state"
    write_atomically(path, "old")

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="no space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["state"]


@pytest.mark.parametrize("supported", [True, False])
def test_a_mac_is_asked_to_empty_the_drives_cache_too(tmp_path, monkeypatch, supported):
    asked = []

    def ask(_descriptor, command):
        asked.append(command)
        if not supported:
            raise OSError(errno.ENOTSUP, "a network volume")

    monkeypatch.setattr("learner.disk._FULL_SYNC", 51)
    monkeypatch.setattr(fcntl, "fcntl", ask)
    monkeypatch.setattr(os, "fsync", lambda _: asked.append("fsync"))
    sync(tmp_path)
    assert asked == ([51] if supported else [51, "fsync"])


def test_the_free_space_is_said_in_words(tmp_path):
    assert room(tmp_path).endswith(" bytes are free there")
    assert "is not known" in room(tmp_path / "missing")
