"""A checkpoint onto disk, with a fault at each of its file system operations in turn."""

import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

from learner.checkpoints.manifest import MANIFEST, read_manifest
from learner.checkpoints.storing import remove_leftovers, store
from protocol.errors import CheckpointError

CRASHING = Path(__file__).with_name("crashing.py")
DIED, REFUSED = 70, 71
OLD, NEW = 1.0, 2.0
CRASHES = ["before", "half", "after", "power"]


class Case(NamedTuple):
    folder: Path
    code: int
    """Of the process that was to save a checkpoint there."""


@pytest.fixture
def memory(tmp_path):
    """A folder in memory where there is one: hundreds of cases wait for no disk."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture
def with_faults(table, save, memory):
    """A save beside or over a checkpoint of step 1, with a fault at each operation in turn."""

    def run(mode, step, *careless):
        paths = [memory / name for name in ("before", "new", "cases")]
        for path in paths:
            path.mkdir()
        before, new, cases = paths
        save(before, table.make(OLD), table.config, step=1)
        new = save(new, table.make(NEW), table.config, step=step)
        command = [sys.executable, CRASHING, before, new, str(step), cases, mode, *careless]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        codes = enumerate(json.loads(done.stdout), start=1)
        return [Case(cases / str(number), code) for number, code in codes]

    return run


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_a_whole_one_is_there(cases, table, save, step):
    """Of the old and the new one; once the new one is there, it stays."""
    found = [table.value_in(case.folder) for case in cases]
    num_old = found.count((1, OLD))
    assert found == [(1, OLD)] * num_old + [(step, NEW)] * (len(cases) - num_old)
    assert 0 < num_old < len(cases)
    for case, wanted in zip(cases, found, strict=True):
        left = names(case.folder)
        remove_leftovers(case.folder)  # as the next start does
        assert set(names(case.folder)) <= {"step_000001", "step_000002"}
        assert names(case.folder) == left or table.value_in(case.folder) == wanted
    for case in cases[:: len(cases) // 4]:
        save(case.folder, table.make(3.0), table.config, step=3)
        assert table.value_in(case.folder) == (3, 3.0)


@pytest.mark.parametrize("step", [2, 1], ids=["beside", "over"])
@pytest.mark.parametrize("mode", CRASHES)
def test_wherever_the_process_dies_a_whole_checkpoint_is_there(
    with_faults, table, save, mode, step
):
    cases = with_faults(mode, step)
    assert [case.code for case in cases] == [DIED] * (len(cases) - 1) + [0]
    assert len(cases) > (6 if mode == "half" else 30)
    assert_a_whole_one_is_there(cases, table, save, step)


@pytest.mark.parametrize("step", [2, 1], ids=["beside", "over"])
@pytest.mark.parametrize("mode", ["full", "fills"])
def test_wherever_the_disk_is_full_a_whole_checkpoint_is_there(
    with_faults, table, save, mode, step
):
    cases = with_faults(mode, step)
    assert [case.code for case in cases] == [REFUSED] * (len(cases) - 1) + [0]
    assert len(cases) > 30
    assert not [name for case in cases for name in names(case.folder) if name.endswith(".tmp")]
    assert_a_whole_one_is_there(cases, table, save, step)


@pytest.mark.parametrize("mode", CRASHES)
def test_without_that_care_there_is_not(with_faults, table, mode):
    def is_lost(case):
        try:
            return table.value_in(case.folder) is None
        except CheckpointError:
            return True

    assert any(is_lost(case) for case in with_faults(mode, 2, "careless"))


def test_everything_is_on_disk_before_the_name_and_the_name_before_it_returns(
    tmp_path, monkeypatch
):
    done = []
    for name in ("fsync", "rename"):
        real = getattr(os, name)

        def noted(*args, name=name, real=real):
            what = Path(os.readlink(f"/proc/self/fd/{args[0]}")) if name == "fsync" else args[1]
            done.append((name, what.name))
            return real(*args)

        monkeypatch.setattr(os, name, noted)
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("names of open files are read from /proc")
    store(tmp_path, 2, {"a": [b"1"], "b": [b"2"]})
    assert done == [
        ("fsync", "a"),
        ("fsync", "b"),
        ("fsync", MANIFEST),
        ("fsync", ".step_000002.tmp"),
        ("rename", "step_000002"),
        ("fsync", tmp_path.name),
    ]


def test_files_are_what_was_given_whatever_the_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("learner.checkpoints.storing.BLOCK_BYTES", 7)
    pieces = [b"", b"12345", memoryview(b"x" * 100), b"6"]
    path = store(tmp_path, 3, {"a": pieces, "empty": []})
    assert (path / "a").read_bytes() == b"".join(pieces)
    manifest = read_manifest(path)
    for name in ("a", "empty"):
        manifest.check_digest(path, name)
    assert sorted(manifest.files) == ["a", "empty"]


def test_a_piece_that_cannot_be_read_leaves_nothing(tmp_path):
    def pieces():
        yield b"1"
        raise OSError(errno.EIO, "a file of the model is gone")

    with pytest.raises(OSError, match="is gone"):
        store(tmp_path, 3, {"a": pieces()})
    assert names(tmp_path) == []


def test_leftovers_are_cleared_away_and_nothing_else(tmp_path):
    for name in (
        *("step_000002", ".step_000003.tmp", ".step_000001.deleted"),
        *(".step_000002.replaced", "aside_000009_run_epoch_1", ".hidden"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").write_text(name)
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [".hidden", "aside_000009_run_epoch_1", "step_000002"]
    assert (tmp_path / "step_000002" / "a").read_text() == "step_000002"


def test_a_checkpoint_whose_replacement_was_cut_short_is_put_back(tmp_path):
    (tmp_path / ".step_000002.replaced").mkdir()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["step_000002"]
