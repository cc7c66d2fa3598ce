"""Which checkpoints stay, and what becomes of those that a run does not go on from."""

import logging
import os

import pytest

from learner.checkpoints.retention import (
    checkpoints_in,
    discard,
    prune_checkpoints,
    set_aside,
    step_of,
)


def make_folders(folder, *steps):
    for step in steps:
        path = folder / f"step_{step:06d}"
        path.mkdir()
        (path / "trainer.json").write_text(str(step))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_only_the_newest_checkpoints_stay(tmp_path):
    make_folders(tmp_path, 2, 4, 10, 12)
    prune_checkpoints(tmp_path / "step_000012", 2)
    assert names(tmp_path) == ["step_000010", "step_000012"]
    prune_checkpoints(tmp_path / "step_000012", 5)
    assert names(tmp_path) == ["step_000010", "step_000012"]


def test_a_damaged_later_checkpoint_does_not_push_out_the_one_just_saved(tmp_path):
    # the run could not resume from step 20, went on from 10 and has now saved 12
    make_folders(tmp_path, 5, 10, 12, 20)
    prune_checkpoints(tmp_path / "step_000012", 1)
    assert names(tmp_path) == ["step_000012", "step_000020"]


def test_every_so_many_steps_a_checkpoint_stays_for_ever(tmp_path):
    make_folders(tmp_path, *range(10, 80, 10))
    prune_checkpoints(tmp_path / "step_000070", 2, keep_interval=30)
    assert names(tmp_path) == ["step_000030", "step_000060", "step_000070"]


def test_the_best_checkpoint_stays(tmp_path):
    make_folders(tmp_path, 10, 20, 30, 40)
    prune_checkpoints(tmp_path / "step_000040", 1, best=20)
    assert names(tmp_path) == ["step_000020", "step_000040"]


def test_steps_are_compared_as_numbers(tmp_path):
    make_folders(tmp_path, 999_999, 1_000_000)
    assert list(checkpoints_in(tmp_path)) == [999_999, 1_000_000]
    prune_checkpoints(tmp_path / "step_1000000", 1)
    assert names(tmp_path) == ["step_1000000"]


def test_what_is_no_checkpoint_is_left_alone(tmp_path):
    make_folders(tmp_path, 1, 2)
    (tmp_path / "step_notes").mkdir()
    (tmp_path / "step_000002.bak").mkdir()
    prune_checkpoints(tmp_path / "step_000002", 1)
    assert names(tmp_path) == ["step_000002", "step_000002.bak", "step_notes"]
    assert step_of(tmp_path / "step_notes") == -1


def test_a_checkpoint_that_was_moved_behind_a_link_is_pruned_as_a_link(tmp_path):
    (tmp_path / "other").mkdir()
    make_folders(tmp_path / "other", 1)
    make_folders(tmp_path, 2)
    (tmp_path / "step_000001").symlink_to(tmp_path / "other" / "step_000001")
    prune_checkpoints(tmp_path / "step_000002", 1)
    assert names(tmp_path) == ["other", "step_000002"]
    assert names(tmp_path / "other") == ["step_000001"]


def test_a_deletion_that_is_cut_short_leaves_no_damaged_checkpoint(tmp_path, monkeypatch):
    make_folders(tmp_path, 1)

    def fail(*_, **__):
        raise OSError("cut short")

    monkeypatch.setattr(os, "unlink", fail)
    with pytest.raises(OSError, match="cut short"):
        discard(tmp_path / "step_000001")
    assert checkpoints_in(tmp_path) == {}


def test_later_checkpoints_are_set_aside_with_all_they_hold(tmp_path, caplog):
    folder, aside = tmp_path / "checkpoints", tmp_path / "aside"
    folder.mkdir()
    make_folders(folder, 2, 4, 6, 8)
    caplog.set_level(logging.WARNING, "learner.checkpoints")
    moved = set_aside(folder, 4, aside)
    assert names(aside / "checkpoints") == ["step_000006", "step_000008"]
    assert [(path / "trainer.json").read_text() for path in moved] == ["6", "8"]
    assert list(checkpoints_in(folder)) == [2, 4]
    for record in caplog.records:
        assert f"it is in {aside / 'checkpoints'} now" in record.getMessage()
    assert len(caplog.records) == 2


def test_nothing_later_is_nothing_to_set_aside(tmp_path, caplog):
    make_folders(tmp_path, 2, 4)
    assert set_aside(tmp_path, 4, tmp_path / "aside") == []
    assert not (tmp_path / "aside").exists()
    assert not caplog.records
