"""The manifest: what it finds wrong with a checkpoint's files."""

import json
import os

import pytest

from learner.checkpoints.manifest import MANIFEST, FileRecord, Manifest, read_manifest
from protocol.errors import CheckpointError
from protocol.weights import digest_of


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    files = {"a": FileRecord(num_bytes=5, digest=digest_of(b"12345"))}
    (tmp_path / MANIFEST).write_bytes(Manifest(files=files).to_bytes())
    return tmp_path


def test_a_whole_folder_has_nothing_wrong(folder):
    manifest = read_manifest(folder)
    manifest.check_digest(folder, "a")


@pytest.mark.parametrize("content", [b"1234", b"123456", b""])
def test_another_size_is_found_at_once(folder, content):
    (folder / "a").write_bytes(content)
    with pytest.raises(CheckpointError, match=f"a has {len(content)} bytes, wanted 5"):
        read_manifest(folder)


def test_a_missing_file_is_found_at_once(folder):
    (folder / "a").unlink()
    with pytest.raises(CheckpointError, match="a cannot be read: No such file"):
        read_manifest(folder)


def test_a_flipped_bit_is_found_by_the_digest(folder):
    (folder / "a").write_bytes(b"12344")
    manifest = read_manifest(folder)
    with pytest.raises(CheckpointError, match="a does not match its digest"):
        manifest.check_digest(folder, "a")


def test_a_file_that_is_not_listed_is_not_taken_on_trust(folder):
    (folder / "b").write_bytes(b"")
    with pytest.raises(CheckpointError, match="does not list b"):
        read_manifest(folder).check_digest(folder, "b")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": {}}', '{"files": {"a": {}}}', "\xff"])
def test_what_is_no_manifest_is_said_to_be_none(folder, text):
    (folder / MANIFEST).write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"manifest\.json cannot be read"):
        read_manifest(folder)


@pytest.mark.parametrize("name", ["", ".", "..", "/etc/passwd", "../a", "a/", "a\0", "b/../a"])
def test_a_name_that_leads_elsewhere_is_refused(folder, name):
    record = {"num_bytes": 5, "digest": digest_of(b"12345")}
    (folder / MANIFEST).write_text(json.dumps({"files": {name: record}}))
    with pytest.raises(CheckpointError, match=r"manifest\.json cannot be read: .* no plain file"):
        read_manifest(folder)


def test_a_manifest_that_is_deep_is_refused(folder):
    (folder / MANIFEST).write_text('{"files":' * 100_000)
    with pytest.raises(CheckpointError, match=r"manifest\.json cannot be read"):
        read_manifest(folder)


@pytest.mark.parametrize("name", ["a", MANIFEST])
@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_only_regular_files_are_opened(folder, name, kind):
    path = folder / name
    path.rename(folder / "elsewhere")
    if kind == "link":
        path.symlink_to(folder / "elsewhere")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)  # to open it would wait for a writer for ever
    with pytest.raises(CheckpointError, match=rf"{name} is no regular file"):
        read_manifest(folder)


def test_without_a_manifest_it_was_never_finished(folder):
    (folder / MANIFEST).unlink()
    with pytest.raises(CheckpointError, match=r"no manifest\.json: never finished"):
        read_manifest(folder)
