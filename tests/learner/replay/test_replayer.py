"""Where a replay begins, and how it goes on after a step that it cannot trust."""

import shutil

import pytest

from learner.replay.command import load_configured, load_replayer
from learner.replay.recorded import read_recorded
from protocol.errors import ConfigError


def loaded(run):
    recorded = read_recorded(run.path)
    return load_replayer(recorded, load_configured(recorded, rewards=False))


@pytest.fixture
def replayer(run):
    return loaded(run)


def test_it_begins_with_the_newest_checkpoint_before_a_step(replayer):
    assert replayer.begin_before(4) == 2
    assert replayer.replay(2) is None
    verdict = replayer.replay(3)
    assert verdict is not None
    assert verdict.agrees


def test_a_step_whose_start_is_not_there_is_not_computed(replayer):
    assert replayer.begin_before(1) == 0
    assert replayer.replay(2) is None
    assert replayer.skip_to(2) == 2
    assert replayer.replay(3) is not None
    assert replayer.skip_to(5) is None


def test_a_run_that_begins_later_wants_a_checkpoint(run):
    lines = (run.path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run.path / "metrics.jsonl").write_text("".join(lines[2:]))
    assert loaded(run).begin_before(3) == 2
    shutil.rmtree(run.path / "checkpoints" / "step_000002")
    with pytest.raises(ConfigError, match="begins with step 3 and has no whole checkpoint before"):
        loaded(run).begin_before(3)


def test_a_missing_row_is_a_difference(run):
    lines = (run.path / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run.path / "metrics.jsonl").write_text("".join([lines[0], *lines[2:]]))
    replayer = loaded(run)
    assert replayer.begin_before(1) == 0
    verdicts = [replayer.replay(step) for step in (1, 2, 3)]
    found = [verdict and [str(each) for each in verdict.differences] for verdict in verdicts]
    gone = 'metrics.jsonl: row: found "none", wanted "one of step 2"'
    assert found == [[], [gone], []]
