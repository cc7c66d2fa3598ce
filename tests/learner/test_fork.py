"""A run folder that begins as a copy of another: whole or not at all, without later steps."""

import json
import os
import shutil

import pytest

from learner.fork import ORIGIN, fork_run
from learner.run_folder import RunFolder
from protocol.errors import ConfigError


@pytest.fixture
def source(tmp_path):
    folder = RunFolder(tmp_path / "source")
    for path in (folder.checkpoints, folder.path / "rollouts"):
        path.mkdir(parents=True)
    for step in (1, 2, 3):
        folder.append_metrics({"step": step})
        folder.append_evaluations([{"step": step, "evaluator": "accuracy"}])
        folder.write_rollouts(step, [{"group": step}])
        checkpoint = folder.checkpoints / f"step_{step:06d}"
        checkpoint.mkdir()
        (checkpoint / "file").write_text(str(step))
    return folder


def steps(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_a_fork_has_one_checkpoint_and_the_records_up_to_it(source, tmp_path):
    checkpoint = source.checkpoints / "step_000002"
    fork_run(source.path, checkpoint, 2, target := tmp_path / "fork")
    assert steps(target / "metrics.jsonl") == steps(target / "eval.jsonl") == [1, 2]
    names = sorted(path.name for path in (target / "rollouts").iterdir())
    assert names == ["step_000001.jsonl", "step_000002.jsonl"]
    assert [path.name for path in (target / "checkpoints").iterdir()] == ["step_000002"]
    assert (target / "checkpoints" / "step_000002" / "file").read_text() == "2"
    origin = {"run": str(source.path), "checkpoint": "step_000002", "step": 2}
    assert json.loads((target / ORIGIN).read_text()) == origin
    assert steps(source.path / "metrics.jsonl") == [1, 2, 3]


def test_what_the_other_run_is_just_writing_is_not_copied(source, tmp_path):
    (source.path / "rollouts" / ".step_000004.jsonl.tmp").write_text("half")
    (source.path / "configs").mkdir()
    (source.path / "configs" / ".run_epoch_000001.yaml.tmp").write_text("half")
    checkpoint = source.checkpoints / "step_000002"
    (checkpoint / ".listed").write_text("a file of the model")
    fork_run(source.path, checkpoint, 2, target := tmp_path / "fork")
    hidden = [path.relative_to(target) for path in target.rglob(".*")]
    assert [str(path) for path in hidden] == ["checkpoints/step_000002/.listed"]


def test_a_disk_that_is_full_leaves_no_run_behind_and_the_fork_can_be_tried_again(
    source, tmp_path, monkeypatch
):
    target, checkpoint = tmp_path / "fork", source.checkpoints / "step_000002"

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    for module, name in ((shutil, "copyfile"), (os, "write")):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, full)
            with pytest.raises(ConfigError, match=r"(?i)no space left .*free space \(.* bytes are"):
                fork_run(source.path, checkpoint, 2, target)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]
    fork_run(source.path, checkpoint, 2, target)
    assert steps(target / "metrics.jsonl") == [1, 2]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_checkpoint_that_is_pruned_meanwhile_is_the_users_to_choose_again(source, tmp_path):
    checkpoint = source.checkpoints / "step_000002"
    shutil.rmtree(checkpoint)
    with pytest.raises(
        ConfigError, match=r"cannot copy .*step_000002.*No such file.*try again, or"
    ):
        fork_run(source.path, checkpoint, 2, tmp_path / "fork")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_a_file_that_vanishes_meanwhile_is_told_in_a_sentence(source, tmp_path):
    checkpoint = source.checkpoints / "step_000002"
    for name in ("step_000001.jsonl", "step_000002.jsonl"):
        path = source.path / "rollouts" / name
        path.unlink()
        path.symlink_to("gone")  # listed, and not there when it is opened
    with pytest.raises(ConfigError, match=r"No such file .* \(and 1 more\)\. If the disk is full"):
        fork_run(source.path, checkpoint, 2, tmp_path / "fork")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]
