"""Saving in a thread: what is saved, what waits for what, what a failure leaves."""

import logging
import resource
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from learner.checkpoints.position import Position
from learner.checkpoints.writer import CheckpointWriter
from learner.ledger.snapshot import Snapshot
from protocol.errors import CheckpointError

FULL_DISK = Path(__file__).with_name("full_disk.py")
SECONDS = 60.0
"""For what is nearly done: only a failure takes so long."""


def position(step):
    return Position(step, step, Snapshot())


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def held(table, tmp_path):
    """A writer whose thread waits before it writes, until it is let go."""
    let_go = threading.Event()
    began = threading.Event()

    def before():
        began.set()
        assert let_go.wait(SECONDS)

    writer = CheckpointWriter(tmp_path, table.config, {}, before)
    writer_and_events = (writer, began, let_go)
    yield writer_and_events
    let_go.set()
    writer.close(SECONDS)


def test_what_is_saved_is_what_was_there_at_the_call(held, table, tmp_path):
    writer, began, let_go = held
    trainer = table.make(1.0)
    writer.save(position(1), trainer.policy, trainer.parameters)
    assert began.wait(SECONDS)
    masters = trainer.parameters.masters
    masters.replace({"table": masters.arrays["table"] + 1.0})  # training goes on
    assert names(tmp_path) == ["model"]
    let_go.set()
    writer.wait()
    assert table.value_in(tmp_path) == (1, 1.0)


def test_one_save_waits_for_the_one_before(held, table, tmp_path):
    writer, began, let_go = held
    trainer = table.make(1.0)
    writer.save(position(1), trainer.policy, trainer.parameters)
    assert began.wait(SECONDS)
    second = threading.Thread(
        target=writer.save, args=(position(2), trainer.policy, trainer.parameters)
    )
    second.start()
    assert second.is_alive()
    let_go.set()
    second.join(SECONDS)
    assert (tmp_path / "step_000001").is_dir()
    writer.wait()
    assert (tmp_path / "step_000002").is_dir()


def test_a_run_that_must_end_waits_no_longer_than_it_is_told(held, table, tmp_path, caplog):
    writer, began, _ = held
    trainer = table.make(1.0)
    writer.save(position(1), trainer.policy, trainer.parameters)
    assert began.wait(SECONDS)
    caplog.set_level(logging.WARNING, "learner.checkpoints")
    writer.close(0.01)
    assert "checkpoint of step 1 was not on disk after 0.0 s" in caplog.text


def test_closing_waits_for_what_is_being_written(table, tmp_path, caplog):
    writer = CheckpointWriter(tmp_path, table.config, {})
    trainer = table.make(1.0)
    writer.save(position(1), trainer.policy, trainer.parameters)
    writer.close(SECONDS)
    writer.close(SECONDS)
    assert table.value_in(tmp_path) == (1, 1.0)
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_nothing_saved_is_nothing_to_wait_for(table, tmp_path):
    writer = CheckpointWriter(tmp_path, table.config, {})
    writer.wait()
    writer.close(0.0)


def test_a_checkpoint_can_be_written_again(table, save, tmp_path):
    save(tmp_path, table.make(1.0), table.config, step=2)
    save(tmp_path, table.make(2.0), table.config, step=2)
    assert table.value_in(tmp_path) == (2, 2.0)
    assert names(tmp_path) == ["model", "step_000002"]


def test_only_as_many_stay_as_the_config_says(table, save, make_config, tmp_path):
    config = make_config(checkpoints={"keep_last": 1, "keep_interval": 4})
    for step in range(1, 8):
        save(tmp_path, table.make(step), config, step=step)
    assert names(tmp_path) == ["model", "step_000004", "step_000007"]


def test_a_start_clears_away_what_a_crash_left(table, tmp_path):
    (tmp_path / ".step_000002.tmp").mkdir()
    CheckpointWriter(tmp_path, table.config, {})
    assert names(tmp_path) == ["model"]


@contextmanager
def largest_file(num_bytes):
    """No file of this process may become larger; the system enforces it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_save_that_fails_leaves_nothing_and_the_next_one_tries_again(table, tmp_path, caplog):
    trainer = table.make(1.0)
    writer = CheckpointWriter(tmp_path, table.config, {})
    writer.save(position(1), trainer.policy, trainer.parameters)
    writer.wait()
    with largest_file(300):
        writer.save(position(2), trainer.policy, trainer.parameters)
        with pytest.raises(CheckpointError, match="cannot save"):
            writer.wait()
    assert names(tmp_path) == ["model", "step_000001"]
    [message] = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert f"cannot save {tmp_path / 'step_000002'} of " in message
    assert "File too large" in message
    assert "bytes are free there" in message
    assert message.endswith("the run goes on, the next save tries again")
    writer.save(position(3), trainer.policy, trainer.parameters)
    writer.wait()
    assert names(tmp_path) == ["model", "step_000001", "step_000003"]


def test_without_what_must_be_on_disk_first_there_is_no_checkpoint(table, tmp_path):
    def before():
        raise OSError("metrics.jsonl cannot be synced")

    trainer = table.make(1.0)
    writer = CheckpointWriter(tmp_path, table.config, {}, before)
    writer.save(position(1), trainer.policy, trainer.parameters)
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl cannot be synced"):
        writer.wait()
    assert names(tmp_path) == ["model"]


def test_an_old_checkpoint_that_cannot_be_deleted_spoils_no_save(
    table, save, tmp_path, caplog, monkeypatch
):
    def fail(*_):
        raise OSError("busy")

    monkeypatch.setattr("learner.checkpoints.writer.prune_checkpoints", fail)
    save(tmp_path, table.make(1.0), table.config, step=1)
    assert table.value_in(tmp_path) == (1, 1.0)
    assert "cannot be deleted: busy" in caplog.text


@pytest.mark.skipif(not shutil.which("bwrap"), reason="a small disk needs bubblewrap")
def test_a_disk_that_is_really_full_costs_a_save_and_nothing_else(tmp_path):
    small = ["bwrap", "--dev-bind", "/", "/", "--size", str(8 << 20), "--tmpfs", str(tmp_path)]
    done = subprocess.run(
        [*small, sys.executable, FULL_DISK, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if "bwrap:" in done.stderr:
        pytest.skip(f"a small disk cannot be made here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "1 saved",
        "2 No space left on device",
        "names model step_000001",
        "3 saved",
        "rows 1 2",
        "waited 10 s",
    ]
