"""A worker's folder, as a hostile candidate leaves it behind."""

import os

import pytest

from reward_workers.sandbox.macos.scratch import (
    MAX_DEPTH,
    MAX_ENTRIES,
    is_over,
    make_scratch,
    remove_scratch,
)


@pytest.fixture
def folder(tmp_path):
    return make_scratch(tmp_path)


def test_it_is_private_and_its_path_has_no_links(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    made = make_scratch(tmp_path / "link")
    assert made.stat().st_mode & 0o777 == 0o700
    assert made.parent == tmp_path.resolve()


def test_what_fits_is_not_over(folder):
    (folder / "small").write_bytes(b"x" * 1000)
    assert not is_over(folder, 1 << 20)


def test_bytes_in_deeper_folders_count(folder):
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "large").write_bytes(b"x" * (1 << 20))
    assert is_over(folder, 1 << 19)


def test_bytes_behind_links_do_not_count(folder, tmp_path):
    (tmp_path / "large").write_bytes(b"x" * (1 << 20))
    (folder / "link").symlink_to(tmp_path / "large")
    (folder / "up").symlink_to(tmp_path)
    assert not is_over(folder, 1 << 19)


def test_many_empty_files_are_over(folder):
    for number in range(MAX_ENTRIES + 1):
        (folder / str(number)).touch()
    assert is_over(folder, 1 << 30)


def test_many_levels_are_over(folder):
    (folder / "/".join("d" * (MAX_DEPTH + 3))).mkdir(parents=True)
    assert is_over(folder, 1 << 30)


def test_a_folder_that_has_gone_is_not_over(folder):
    folder.rmdir()
    assert not is_over(folder, 1)


def test_removal_follows_no_link_and_minds_no_permission(folder, tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    (folder / "out").symlink_to(kept, target_is_directory=True)
    (folder / "closed" / "inner").mkdir(parents=True)
    (folder / "closed" / "inner" / "file").touch()
    os.mkfifo(folder / "pipe")
    (folder / "closed" / "inner").chmod(0)
    (folder / "closed").chmod(0)
    folder.chmod(0)
    remove_scratch(folder)
    assert not folder.exists()
    assert (kept / "file").exists()


def test_two_thousand_levels_are_removed(folder):
    top = os.open(folder, os.O_RDONLY)
    here = top
    for _ in range(2000):
        os.mkdir("deeper", dir_fd=here)
        inner = os.open("deeper", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)
    remove_scratch(folder)
    assert not folder.exists()


def test_removing_what_has_gone_is_no_error(folder):
    folder.rmdir()
    remove_scratch(folder)
