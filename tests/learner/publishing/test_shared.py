"""Files of whole versions: which are kept, and what is left of them."""

import shutil

import pytest

from learner.publishing.shared import SharedVersions
from protocol import weights_files
from protocol.errors import WeightsError
from protocol.weights import PackedWeights, digest_of
from protocol.weights_files import WeightsFiles


def packed(number):
    data = f"version {number}".encode() * 100
    return PackedWeights((), memoryview(data), digest_of(data))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "weights"


def found(folder, versions):
    """Which of these versions an actor can read there."""
    files = WeightsFiles(folder)
    return [
        number
        for number in versions
        if files.read(packed(number).digest, len(packed(number).data)) == packed(number).data
    ]


def test_the_newest_versions_can_be_read(folder):
    shared = SharedVersions(folder, retained=2)
    assert all(shared.write(packed(number)) for number in range(4))
    assert found(folder, range(4)) == [2, 3]


def test_a_version_that_comes_again_takes_no_place_of_another(folder):
    shared = SharedVersions(folder, retained=2)
    assert all(shared.write(packed(number)) for number in (0, 1, 1, 1))
    assert found(folder, range(2)) == [0, 1]


def test_what_a_crash_left_is_deleted_at_the_next_start(folder):
    WeightsFiles(folder).write(packed(0).digest, packed(0).data)
    shared = SharedVersions(folder, retained=2)
    assert found(folder, [0]) == []
    assert shared.write(packed(1))
    assert found(folder, range(2)) == [1]


def test_the_folder_is_claimed_until_the_end(folder, monkeypatch):
    monkeypatch.setattr(weights_files.time, "sleep", lambda _: None)
    shared = SharedVersions(folder, retained=2)
    shared.write(packed(0))
    with pytest.raises(WeightsError, match="in use"):
        SharedVersions(folder, retained=2)
    assert found(folder, [0]) == [0]
    shared.close()
    again = SharedVersions(folder, retained=2)
    assert again.write(packed(1))
    again.close()


def test_nothing_is_left_at_the_end_and_who_reads_goes_on(folder):
    shared = SharedVersions(folder, retained=2)
    shared.write(packed(0))
    mapped = WeightsFiles(folder).read(packed(0).digest, len(packed(0).data))
    shared.close()
    assert not folder.exists()
    assert mapped == packed(0).data


def test_a_folder_that_takes_nothing_costs_one_line_in_the_log(folder, caplog):
    shared = SharedVersions(folder, retained=2)
    shutil.rmtree(folder)
    folder.write_text("in its place")
    assert not any(shared.write(packed(number)) for number in range(3))
    [told] = caplog.records
    assert str(folder) in told.getMessage()
    shared.close()
    assert "cannot delete" in caplog.text


def test_a_folder_that_was_removed_is_made_and_claimed_again(folder, monkeypatch):
    monkeypatch.setattr(weights_files.time, "sleep", lambda _: None)
    shared = SharedVersions(folder, retained=2)
    shutil.rmtree(folder)
    assert shared.write(packed(0))
    assert found(folder, [0]) == [0]
    with pytest.raises(WeightsError, match="in use"):
        SharedVersions(folder, retained=2)
    shared.close()
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_again_costs_one_line(folder, caplog):
    parent = folder.parent / "parent"
    shared = SharedVersions(parent / "weights", retained=2)
    shutil.rmtree(parent)
    parent.write_text("in its place")
    assert not any(shared.write(packed(number)) for number in range(3))
    [told] = caplog.records
    assert "not shared any more" in told.getMessage()


def test_a_folder_that_is_a_file_is_refused(folder):
    folder.write_text("mine")
    with pytest.raises(WeightsError, match="share_files"):
        SharedVersions(folder, retained=2)
    assert folder.read_text() == "mine"
