"""The run folder: who may write into it, what a crash leaves, what JSON cannot hold."""

import errno
import json
import math
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.disk import Disk
from learner.run_folder import RunFolder, config_of, finite
from protocol.config_file import load_config
from protocol.errors import ConfigError


@pytest.fixture
def folder(tmp_path, make_config):
    made = RunFolder(tmp_path / "runs" / "one")
    made.create(make_config(), resume=False)
    return made


def rows(folder, name):
    return [json.loads(line) for line in (folder.path / name).read_text().splitlines()]


def test_a_new_folder_holds_the_resolved_config(tmp_path, make_config):
    config = make_config(run={"max_steps": 7})
    folder = RunFolder(tmp_path / "runs" / "one")
    folder.create(config, resume=False)
    assert load_config(folder.path / "config.yaml") == config
    assert folder.checkpoints.is_dir()
    assert folder.logs.is_dir()


def test_an_existing_folder_is_refused_unless_the_run_is_resumed(folder, make_config):
    with pytest.raises(ConfigError, match=r"one exists: continue that run with --resume"):
        folder.create(make_config(), resume=False)
    folder.create(make_config(), resume=True)


def test_a_folder_that_cannot_be_made_is_the_users_error(tmp_path, make_config):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="cannot write run folder"):
        RunFolder(tmp_path / "file" / "run").create(make_config(), resume=False)


def test_the_run_epoch_rises_with_every_start(folder):
    assert [folder.next_run_epoch() for _ in range(3)] == [1, 2, 3]
    assert RunFolder(folder.path).next_run_epoch() == 4


def test_the_run_epoch_is_on_disk_before_it_is_used(folder, monkeypatch):
    synced = []
    real = os.fsync

    def fsync(descriptor):
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        synced.append((kind, (folder.path / "run_epoch").exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    folder.next_run_epoch()
    # the bytes before the name, then the folder with the name
    assert synced == [("file", False), ("folder", True)]


def test_the_completions_of_later_evaluations_are_put_aside(folder):
    for step in (0, 2, 4):
        folder.write_evaluated(step, "some/file.py:mine", [{"prompt_id": "p", "step": step}])
    folder.cut_back(2, folder.path / "aside")
    left = sorted(path.name for path in (folder.path / "evaluations").iterdir())
    assert left == ["step_000000", "step_000002"]
    aside = folder.path / "aside" / "evaluations" / "step_000004" / "mine.jsonl"
    assert json.loads(aside.read_text()) == {"prompt_id": "p", "step": 4}
    assert folder.evaluated_of(2, "some/file.py:mine").name == "mine.jsonl"


def test_records_after_a_step_are_cut_back_and_the_others_stay_as_they_are(folder):
    for step in (1, 2, 3):
        folder.append_metrics({"step": step, "loss": 0.1 * step})
        folder.write_rollouts(step, [{"group": step}])
    for step in (0, 2, 3):
        folder.append_evaluations([{"step": step, "accuracy": 0.5}])
    before = (folder.path / "metrics.jsonl").read_text().splitlines()
    folder.cut_back(2, folder.path / "aside")
    assert (folder.path / "metrics.jsonl").read_text().splitlines() == before[:2]
    assert [row["step"] for row in rows(folder, "eval.jsonl")] == [0, 2]
    assert sorted(path.name for path in (folder.path / "rollouts").iterdir()) == [
        "step_000001.jsonl",
        "step_000002.jsonl",
    ]
    aside = folder.path / "aside"
    assert (aside / "metrics.jsonl").read_text() == before[2] + "\n"
    assert json.loads((aside / "eval.jsonl").read_text())["step"] == 3
    assert json.loads((aside / "rollouts" / "step_000003.jsonl").read_text()) == {"group": 3}


@pytest.mark.parametrize("torn", ['{"step": 2, "lo', '{"step": 2, "x": {"y": 1}', "{", '{"a}'])
def test_a_torn_last_line_is_cut_off(folder, torn):
    folder.append_metrics({"step": 1})
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write(torn)
    folder.cut_back(5, folder.path / "aside")
    folder.append_metrics({"step": 2})
    assert [row["step"] for row in rows(folder, "metrics.jsonl")] == [1, 2]


@pytest.mark.parametrize(
    "damaged",
    [
        b'{"step": 1, "x": "\xff\xfe"}',
        b'{"step": 1, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"step": 1e999}',
        b'{"step": -Infinity}',
        b'{"step": ' + b"9" * 5000 + b"}",
        b"\0",
    ],
    ids=["no-utf8", "deep", "huge", "infinite", "many-digits", "nul"],
)
@pytest.mark.parametrize("name", ["metrics.jsonl", "eval.jsonl"])
def test_a_damaged_line_is_told_and_cut_and_the_others_stay(folder, caplog, name, damaged):
    path = folder.path / name
    path.write_bytes(b'{"step": 1}\n' + damaged + b'\n{"step": 2}\n')
    folder.cut_back(5, folder.path / "aside")
    assert [row["step"] for row in rows(folder, name)] == [1, 2]
    cut = (folder.path / "aside" / name).read_text()
    assert cut == damaged.decode(errors="backslashreplace") + "\n"
    assert f"{path}:2 is no whole row" in caplog.text


def test_cutting_back_a_run_without_records_does_nothing(folder):
    folder.cut_back(0, folder.path / "aside")
    assert not (folder.path / "metrics.jsonl").exists()


def test_what_is_not_finite_is_null_in_every_file(folder):
    odd = {"a": math.nan, "b": {"c": [1.5, math.inf, (-math.inf, "nan")]}, "step": 1}
    even = {"a": None, "b": {"c": [1.5, None, [None, "nan"]]}, "step": 1}
    folder.append_metrics(odd)
    folder.append_evaluations([odd])
    folder.write_rollouts(1, [odd])
    folder.write_json("summary.json", odd)
    assert rows(folder, "metrics.jsonl") == rows(folder, "eval.jsonl") == [even]
    assert rows(folder, "rollouts/step_000001.jsonl") == [even]
    assert json.loads((folder.path / "summary.json").read_text()) == even


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(values)
def test_every_value_becomes_json_that_any_reader_takes(value):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    text = json.dumps(finite(value))
    assert finite(json.loads(text, parse_constant=refuse)) == finite(value)


def test_a_text_with_odd_line_ends_stays_one_row(folder):
    folder.append_metrics({"step": 1, "skipped": "a\u2028b\x85c\x0bd\ne"})
    folder.cut_back(1, folder.path / "aside")
    assert rows(folder, "metrics.jsonl")[0]["skipped"] == "a\u2028b\x85c\x0bd\ne"


def test_rows_are_on_disk_after_a_sync(folder, monkeypatch):
    folder.append_metrics({"step": 1})
    synced = []
    real = os.fsync

    def fsync(descriptor):
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    folder.sync()  # without eval.jsonl, which is not there yet
    folder.append_evaluations([{"step": 1}])
    folder.sync()
    inode = {
        name: (folder.path / name).stat().st_ino for name in (".", "metrics.jsonl", "eval.jsonl")
    }
    assert synced == [
        inode["metrics.jsonl"],
        inode["."],
        *(inode[n] for n in inode if n != "."),
        inode["."],
    ]


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (lambda folder: folder.append_metrics({"step": 1}), "metrics.jsonl"),
        (lambda folder: folder.append_evaluations([{"step": 1}]), "eval.jsonl"),
        (lambda folder: folder.write_rollouts(1, [{"group": 1}]), "rollouts/step_000001.jsonl"),
        (lambda folder: folder.write_json("summary.json", {"trained": 1}), "summary.json"),
        (lambda folder: folder.next_run_epoch(), "run_epoch"),
    ],
)
def test_every_record_waits_for_room_on_the_disk(tmp_path, make_config, monkeypatch, write, name):
    slept = []
    real = os.write

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def sleep(seconds):
        slept.append(seconds)
        monkeypatch.setattr(os, "write", real)

    folder = RunFolder(tmp_path / "run", Disk(sleep=sleep))
    folder.create(make_config(), resume=False)
    monkeypatch.setattr(os, "write", full)
    write(folder)
    assert len(slept) == 1
    assert len((folder.path / name).read_text().splitlines()) in (1, 3)
    folder.release()


def test_two_learners_cannot_share_a_folder(folder, make_config):
    other = RunFolder(folder.path)
    with pytest.raises(ConfigError, match="another learner is running in"):
        other.create(make_config(), resume=True)
    folder.release()
    other.create(make_config(), resume=True)
    other.release()


def test_the_summary_of_an_end_that_was_none_is_forgotten(folder):
    folder.write_json("summary.json", {"trained": 3})
    folder.cut_back(2, folder.path / "aside")
    assert not (folder.path / "summary.json").exists()
    folder.cut_back(2, folder.path / "aside")


def test_nothing_is_put_aside_where_nothing_is_cut(folder):
    folder.append_metrics({"step": 1})
    folder.cut_back(1, folder.path / "aside")
    assert not (folder.path / "aside").exists()


def test_every_run_epoch_keeps_its_config_and_an_older_run_has_one(folder, make_config):
    first, second = make_config(run={"max_steps": 5}), make_config(run={"max_steps": 9})
    folder.keep_config(first, 1)
    folder.keep_config(second, 2)
    assert config_of(folder.path, 1) == first
    assert config_of(folder.path, 2) == second
    newest = load_config(folder.path / "config.yaml")
    assert config_of(folder.path, 3) == config_of(folder.path, None) == newest
