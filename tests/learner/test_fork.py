"""A run folder that begins as a copy of another: whole or not at all, without later steps."""

import json
import shutil

import pytest

from learner.fork import ORIGIN, fork_run
from learner.run_folder import RunFolder


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


def test_a_fork_that_fails_half_way_leaves_no_run_behind_and_can_be_tried_again(
    source, tmp_path, monkeypatch
):
    target, checkpoint = tmp_path / "fork", source.checkpoints / "step_000002"

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space"):
            fork_run(source.path, checkpoint, 2, target)
    assert not target.exists()
    fork_run(source.path, checkpoint, 2, target)
    assert steps(target / "metrics.jsonl") == [1, 2]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
