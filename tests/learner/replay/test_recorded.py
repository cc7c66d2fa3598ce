"""What a replay reads of a run folder."""

import pytest

from learner.replay.recorded import read_recorded
from protocol.config_file import dump_config
from protocol.errors import ConfigError


@pytest.fixture
def folder(tmp_path, make_config):
    (tmp_path / "config.yaml").write_text(dump_config(make_config()))
    return tmp_path


def test_rows_are_read_by_their_steps(folder, make_config):
    (folder / "metrics.jsonl").write_text('{"step": 3}\n{"step": 4, "loss": 1.0}\n')
    recorded = read_recorded(folder)
    assert recorded.steps == {3: {"step": 3}, 4: {"step": 4, "loss": 1.0}}
    assert (recorded.first, recorded.last) == (3, 4)
    assert recorded.config == make_config()
    assert recorded.rollouts(3) == folder / "rollouts" / "step_000003.jsonl"
    recorded.refuse_missing(3)
    with pytest.raises(ConfigError, match=r"has no step 5: its metrics\.jsonl has steps 3 to 4"):
        recorded.refuse_missing(5)


def test_a_step_has_the_config_of_its_run_epoch(folder, make_config):
    second = make_config(run={"max_steps": 7})
    (folder / "configs").mkdir()
    (folder / "configs" / "run_epoch_000002.yaml").write_text(dump_config(second))
    rows = ['{"step": 1}', '{"step": 2, "run_epoch": 2}', '{"step": 4, "run_epoch": 3}']
    (folder / "metrics.jsonl").write_text("".join(f"{row}\n" for row in rows))
    recorded = read_recorded(folder)
    newest = make_config()
    assert [recorded.config_of(step) for step in range(1, 6)] == [
        *(newest, second, second),  # step 3 has no row
        *(newest, newest),  # no config of run epoch 3 was kept
    ]
    assert [recorded.run_epoch_of(step) for step in (1, 3, 5)] == [None, 2, 3]


@pytest.mark.parametrize("epoch", ['"1"', "0", "null", "true"])
def test_a_run_epoch_that_is_none_is_refused_with_its_line(folder, epoch):
    (folder / "metrics.jsonl").write_text(f'{{"step": 1, "run_epoch": {epoch}}}\n')
    with pytest.raises(ConfigError, match=r"metrics\.jsonl:1 has run_epoch"):
        read_recorded(folder)


def test_a_row_that_is_being_written_is_not_there_yet(folder):
    (folder / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2, "lo')
    assert read_recorded(folder).last == 1


@pytest.mark.parametrize("line", ["no json", "[]", '{"step": "1"}', '{"step": 0}', "{}"])
def test_a_row_of_no_step_is_refused_with_its_line(folder, line):
    (folder / "metrics.jsonl").write_text(f'{{"step": 1}}\n{line}\n')
    with pytest.raises(ConfigError, match=r"metrics\.jsonl:2 is no"):
        read_recorded(folder)


def test_what_is_no_run_is_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match="has no row yet"):
        read_recorded(folder)
    with pytest.raises(ConfigError, match=r"it has no config\.yaml"):
        read_recorded(_made(tmp_path / "empty"))
    with pytest.raises(ConfigError, match="there is no run folder"):
        read_recorded(tmp_path / "config.yaml")


def _made(path):
    path.mkdir()
    return path
