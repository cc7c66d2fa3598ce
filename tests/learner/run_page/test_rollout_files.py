import os
import time

import pytest

from learner.run_page import rollout_files
from learner.run_page.rollout_files import RolloutFiles


@pytest.fixture
def files(run_dir):
    return RolloutFiles(run_dir / "rollouts")


def test_a_run_without_rollouts_has_none(files):
    assert (files.steps(), files.count(1.0), files.line(1, 0)) == ([], (0, True), None)


def test_only_names_of_steps_are_steps(files, write_rollouts, run_dir):
    for step in (2, 10, 1234567):
        write_rollouts(step)
    for name in (
        "step_7.jsonl",
        "step_000003.jsonl.tmp",
        "xstep_000004.jsonl",
        "step_-00001.jsonl",
    ):
        (run_dir / "rollouts" / name).write_text("{}\n")
    assert files.steps() == [2, 10, 1234567]


@pytest.mark.parametrize("chunk", [2, 3, 5, 1 << 20])
@pytest.mark.parametrize("data", [b"", b"a\nbb\n\nccc\n", b"a\nbb\n\nccc", b"\n", b"x"])
def test_lines_are_found_by_number(files, write_rollouts, monkeypatch, data, chunk):
    monkeypatch.setattr(rollout_files, "_CHUNK_BYTES", chunk)
    write_rollouts(1).write_bytes(data)
    lines = data.splitlines(keepends=True)
    assert files.num_lines(1) == len(lines)
    assert [files.line(1, n) for n in range(len(lines) + 1)] == [*lines, None]
    for first in range(len(lines) + 1):
        assert list(files.lines(1, first)) == list(enumerate(lines))[first:]


def test_a_file_that_was_written_again_is_read_again(files, write_rollouts):
    path = write_rollouts(1, b"a", b"b")
    assert (files.num_lines(1), files.count(1.0)) == (2, (2, True))
    facts = path.stat()
    other = path.with_suffix(".tmp")
    other.write_bytes(b"\n\n\n\n")  # as long, and of the same time: only the inode tells
    os.utime(other, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    other.replace(path)
    assert (files.num_lines(1), files.count(1.0)) == (4, (4, True))


def test_what_was_not_counted_in_time_is_estimated_and_counted_later(files, write_rollouts):
    for step in range(1, 5):
        write_rollouts(step, *[b"x" * 99] * 10)
    files.num_lines(4)
    assert files.count(-1.0) == (40, False)
    assert files.count(60.0) == (40, True)
    assert files.count(-1.0) == (40, True)


def test_places_of_few_steps_are_kept(files, write_rollouts, monkeypatch):
    monkeypatch.setattr(rollout_files, "_KEPT_INDEXES", 2)
    for step in range(1, 6):
        write_rollouts(step, b"x")
        files.num_lines(step)
    assert list(files._indexes) == [4, 5]


def test_a_folder_that_lies_still_is_counted_once(files, write_rollouts, run_dir):
    path = write_rollouts(1, b"x", b"y")
    long_ago = time.time() - 60.0
    os.utime(run_dir / "rollouts", (long_ago, long_ago))
    assert files.count(60.0) == (2, True)
    path.write_bytes(b"")  # no run writes into a file that is there
    assert files.count(60.0) == (2, True)
    write_rollouts(2, b"z")
    assert files.count(60.0) == (1, True)
