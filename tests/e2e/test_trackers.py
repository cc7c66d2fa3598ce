"""What trackers were told is what metrics.jsonl and eval.jsonl say, over a kill and a resume."""

import json
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto import wandb_internal_pb2

from learner.tracker_names import evaluation_figures, step_figures

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SMALL = (
    'data.heldout=["arithmetic:add2?count=16"]',
    "evaluation.interval=3",
    "checkpoints.interval=3",
    "generation.group_size=4",
    "learner.groups_per_step=8",
)

FAILS = """
class Fails:
    def start(self, run):
        pass

    def log(self, step, figures, time):
        if step == 2:
            raise OSError("no space left")

    def close(self, seconds):
        pass
"""

BLOCK_BYTES = 32768
WHOLE, LAST = 1, 4
"""Kinds of pieces in wandb's file, LevelDB's log format."""

Reports = list[dict[str, Any]]


def test_both_trackers_have_every_figure_over_a_kill_and_a_resume(train, tmp_path: Path):
    (tmp_path / "fails.py").write_text(FAILS)
    failing = f"{tmp_path / 'fails.py'}:Fails"
    report_to = f"report_to=[tensorboard, {{name: wandb, mode: offline}}, {failing}]"
    run = train("run.max_steps=100000", report_to, *SMALL)
    run.until_step(5)
    run.until(lambda: "is left out" in run.stdout, "the failure")
    run.until(lambda: wandb_files(run.run_dir), "wandb's file")
    run.until_step(len(run.rows()) + 2)
    run.kill("learner")
    began = time.monotonic()
    run.ends(10)
    while run.members():  # wandb's server among them
        assert time.monotonic() - began < 10.0
    before = run.rows()
    told = f"tracker {failing} is left out from here on: OSError: no space left"
    assert run.stdout.count(told) == 1

    resumed = train(f"run.max_steps={len(before) + 3}", report_to, *SMALL, options=["--resume"])
    resumed.succeeds()
    rows, evaluations = resumed.rows(), resumed.evaluations()
    assert_tensorboard_equals(run.run_dir / "tensorboard", rows, evaluations)
    assert_wandb_equals(run.run_dir, before, rows, evaluations)
    assert "wandb" not in run.stdout + run.stderr + resumed.stdout + resumed.stderr


def test_ctrl_c_ends_trackers_too(train):
    run = train("run.max_steps=100000", "report_to=[{name: wandb, mode: offline}]", *SMALL)
    run.until(lambda: wandb_files(run.run_dir), "wandb's file")
    run.until_step(len(run.rows()) + 2)
    run.interrupt()
    began = time.monotonic()
    assert run.ends(10) == 130, run.tail()
    assert time.monotonic() - began < 5.0
    assert run.members() == []
    assert run.temporary_files() == []
    (offline,) = wandb_files(run.run_dir)
    reports = [one for one in wandb_reports(offline) if "train/loss" in one]
    assert reports == expected(run.rows(), [])[: len(reports)]
    assert len(run.rows()) - len(reports) in (0, 1)  # the signal came between the two


def assert_tensorboard_equals(folder: Path, rows: Reports, evaluations: Reports) -> None:
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    said = {
        tag: {(one.step, np.float32(one.value)) for one in found.Scalars(tag)}
        for tag in found.Tags()["scalars"]
        if found.Scalars(tag)  # none where a figure was only in steps that the resume took back
    }
    wanted: dict[str, set[Any]] = {}
    for figures in expected(rows, evaluations):
        for name, value in figures.items():
            wanted.setdefault(name, set()).add((figures["train/global_step"], np.float32(value)))
    assert said == wanted
    assert len(said["train/reward"]) == len(rows)
    assert len(said["eval/accuracy/accuracy"]) == len(evaluations)
    assert b"builtin:tiny" in found.Tensors("config")[0].tensor_proto.string_val[0]


def assert_wandb_equals(
    run_dir: Path, before: Reports, rows: Reports, evaluations: Reports
) -> None:
    """A file for each start, of one run; steps that were trained again are in both."""
    first, second = wandb_files(run_dir)
    assert first.stem == second.stem == f"run-{(run_dir / 'wandb/run_id').read_text().strip()}"
    kept = [one for one in wandb_reports(first) if "train/loss" in one]
    assert kept == expected(before, [])[: len(kept)]
    assert len(before) - len(kept) in (0, 1)  # killed just before it could tell the last one
    again = wandb_reports(second)
    resumed_at = min(int(one["train/global_step"]) for one in again) - 1
    assert resumed_at < len(before)
    later = [each for each in evaluations if each["step"] > resumed_at]
    wanted = expected(rows[resumed_at:], later)
    assert sorted(again, key=sorted_text) == sorted(wanted, key=sorted_text)
    rewards = [one["train/reward"] for one in again if "train/reward" in one]
    assert rewards == [row["reward/mean"] for row in rows[resumed_at:]]


def sorted_text(report: Mapping[str, float]) -> str:
    return json.dumps(report, sort_keys=True)


def expected(rows: Reports, evaluations: Reports) -> list[Mapping[str, float]]:
    return [*map(step_figures, rows), *map(evaluation_figures, evaluations)]


def wandb_files(run_dir: Path) -> list[Path]:
    return sorted(run_dir.glob("wandb/offline-run-*/run-*.wandb"))


def wandb_reports(path: Path) -> Reports:
    """What was reported, without wandb's own figures."""
    return [
        {
            key: json.loads(item.value_json)
            for item in record.history.item
            if not (key := "/".join(item.nested_key) or item.key).startswith("_")
        }
        for record in wandb_records(path)
        if record.HasField("history")
    ]


def wandb_records(path: Path) -> Iterator[Any]:
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    at, record = 7, b""
    while at + 7 <= len(data):
        if BLOCK_BYTES - at % BLOCK_BYTES < 7:  # no room for a piece's head
            at += BLOCK_BYTES - at % BLOCK_BYTES
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (WHOLE, LAST):
            whole: Any = wandb_internal_pb2  # its classes are made at run time
            yield whole.Record.FromString(record)
            record = b""
