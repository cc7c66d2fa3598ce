"""Event files, read back by TensorBoard's own reader."""

import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from learner.tracker import TrackedRun
from learner.trackers.tensorboard import tensorboard
from protocol.errors import ConfigError


def report(folder, *, step, values, place=None, at=0):
    """One start of a learner that goes on from `step`."""
    tracker = tensorboard(folder=place)
    tracker.start(TrackedRun("run", folder, {"run": {"seed": at}}, step))
    for number, value in enumerate(values, start=step + 1):
        tracker.log(number, {"train/reward": value}, 1000.0 + number)
    tracker.close(1.0)


def read(folder):
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    found.Reload()
    return found


def test_figures_come_back_with_their_steps_and_times(tmp_path):
    report(tmp_path, step=0, values=[0.1, 211959809])
    scalars = read(tmp_path / "tensorboard").Scalars("train/reward")
    assert [(one.step, one.wall_time) for one in scalars] == [(1, 1001.0), (2, 1002.0)]
    assert [one.value for one in scalars] == [np.float32(0.1), np.float32(211959809)]


def test_the_config_is_a_text(tmp_path):
    report(tmp_path, step=0, values=[])
    found = read(tmp_path / "tensorboard")
    assert found.Tags()["tensors"] == ["config"]
    assert found.Tensors("config")[0].tensor_proto.string_val == [b"    run:\n      seed: 0"]
    assert found.SummaryMetadata("config").plugin_data.plugin_name == "text"


def test_steps_that_are_trained_again_replace_the_earlier_ones(tmp_path, monkeypatch):
    report(tmp_path, step=0, values=[0.1, 0.2, 0.3, 0.4, 0.5])
    now = sys.modules["learner.trackers.tensorboard"].time.time() + 60
    monkeypatch.setattr("learner.trackers.tensorboard.time.time", lambda: now)
    report(tmp_path, step=2, values=[7.0])
    scalars = read(tmp_path / "tensorboard").Scalars("train/reward")
    assert [one.step for one in scalars] == [1, 2, 3]
    assert scalars[-1].value == 7.0


def test_another_folder_can_be_named(tmp_path):
    report(tmp_path / "run", step=0, values=[1.0], place=str(tmp_path / "elsewhere"))
    assert read(tmp_path / "elsewhere").Scalars("train/reward")[0].value == 1.0
    assert not (tmp_path / "run").exists()


def test_a_missing_package_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.record_writer", None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[tensorboard\]'"):
        tensorboard()
