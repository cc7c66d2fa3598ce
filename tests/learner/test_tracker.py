"""Trackers get every row, and no run is held up or ended by one."""

import logging
import threading
import time
from pathlib import Path

import pytest

from learner.assemble import check
from learner.tracker import MAX_WAITING, TrackedRun, Trackers, make_trackers
from protocol.config_section import PluginConfig
from protocol.errors import ConfigError, UnknownPluginError

SECONDS = 30.0
RUN = TrackedRun("run", Path("unused"), {}, 0)

FAILS = """
class Fails:
    def __init__(self, at):
        self.at = at

    def start(self, run):
        pass

    def log(self, step, figures, time):
        if step == self.at:
            raise OSError("no space left")

    def close(self, seconds):
        pass


def fails(*, at):
    return Fails(at)
"""


class Notes:
    """Notes what it is told; each call of `log` may have to wait."""

    def __init__(self, may_log: threading.Event | None = None):
        self.calls = []
        self.logs = threading.Event()
        self._may_log = may_log

    def start(self, run):
        self.calls.append(("start", run.name, threading.current_thread()))

    def log(self, step, figures, time):
        self.logs.set()
        if self._may_log is not None:
            assert self._may_log.wait(SECONDS)
        self.calls.append((step, figures, time))

    def close(self, seconds):
        self.calls.append("close")


def row(step, **figures):
    return {"step": step, "time": 100.0 + step, **figures}


def section(**fields):
    return PluginConfig.model_validate(fields)


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_every_row_arrives_in_order_in_a_thread_of_its_own():
    notes = Notes()
    trackers = Trackers({"notes": notes})
    trackers.start(RUN)
    trackers.log_evaluations([row(0, evaluator="accuracy", accuracy=0.5)])
    for step in (1, 2):
        trackers.log_step(row(step, **{"reward/mean": 0.25 * step}))
    trackers.close(SECONDS)
    (_, name, thread), *rest = notes.calls
    assert name == "run"
    assert thread is not threading.main_thread()
    assert rest == [
        (0, {"train/global_step": 0, "eval/accuracy/accuracy": 0.5}, 100.0),
        (1, {"train/global_step": 1, "train/reward": 0.25}, 101.0),
        (2, {"train/global_step": 2, "train/reward": 0.5}, 102.0),
        "close",
    ]


def test_one_that_hangs_holds_nothing_up(caplog):
    may_log = threading.Event()
    slow, other = Notes(may_log), Notes()
    trackers = Trackers({"slow": slow, "other": other})
    trackers.start(RUN)
    trackers.log_step(row(0))
    assert slow.logs.wait(SECONDS)
    for step in range(1, MAX_WAITING + 6):
        other.logs.clear()
        trackers.log_step(row(step))
        assert other.logs.wait(SECONDS)
    began = time.monotonic()
    trackers.close(0.5)
    assert time.monotonic() - began < 5.0
    assert warnings(caplog) == [
        f"tracker slow is {MAX_WAITING} rows behind: rows are left out until it follows",
        "tracker slow did not end in time: its last rows may be missing",
    ]
    may_log.set()


def test_one_that_follows_late_ends_and_says_how_many_rows_it_lacks(caplog):
    may_log = threading.Event()
    slow = Notes(may_log)
    trackers = Trackers({"slow": slow})
    trackers.start(RUN)
    trackers.log_step(row(0))
    assert slow.logs.wait(SECONDS)
    for step in range(1, MAX_WAITING + 6):
        trackers.log_step(row(step))
    threading.Timer(0.1, may_log.set).start()
    trackers.close(SECONDS)
    assert slow.calls[-1] == "close"
    assert warnings(caplog)[-1] == "tracker slow lacks 6 rows"  # 5, and one for the end's place
    trackers.close(SECONDS)
    assert len(warnings(caplog)) == 2


def test_one_that_fails_is_told_once_and_left_out(caplog, tmp_path):
    (tmp_path / "fails.py").write_text(FAILS)
    name = f"{tmp_path / 'fails.py'}:fails"
    notes = Notes()
    trackers = Trackers({**make_trackers([section(name=name, at=2)]), "notes": notes})
    trackers.start(RUN)
    for step in range(1, 5):
        trackers.log_step(row(step))
    trackers.close(SECONDS)
    assert [call[0] for call in notes.calls[1:-1]] == [1, 2, 3, 4]
    assert warnings(caplog) == [f"tracker {name} is left out from here on: OSError: no space left"]


@pytest.mark.parametrize("method", ["start", "close"])
def test_one_that_fails_at_either_end_is_told(caplog, monkeypatch, method):
    def fail(*_):
        raise ValueError("broken")

    monkeypatch.setattr(Notes, method, fail)
    trackers = Trackers({"notes": Notes()})
    trackers.start(RUN)
    trackers.log_step(row(1))
    trackers.close(SECONDS)
    assert warnings(caplog) == ["tracker notes is left out from here on: ValueError: broken"]


def test_trackers_that_never_began_are_closed_at_once():
    trackers = Trackers({"notes": Notes()})
    trackers.log_step(row(1))
    trackers.close(SECONDS)
    Trackers().log_step({})


def test_what_a_config_gets_wrong_is_refused(tmp_path):
    (tmp_path / "fails.py").write_text(FAILS)
    with pytest.raises(UnknownPluginError, match="tensorboard"):
        make_trackers([section(name="tensorbord")])
    with pytest.raises(ConfigError, match="takes no parameter 'projekt': known are dir"):
        make_trackers([section(name="wandb", projekt="x")])
    with pytest.raises(ConfigError, match="names tensorboard twice"):
        make_trackers([section(name="tensorboard"), section(name="tensorboard", folder="x")])


def test_a_check_of_the_config_says_what_no_tracker_takes(make_config):
    check(make_config(report_to=["tensorboard", {"name": "wandb", "mode": "offline"}]))
    with pytest.raises(ConfigError, match="'tensorboard' takes no parameter 'foldr'"):
        check(make_config(report_to=[{"name": "tensorboard", "foldr": "x"}]))
