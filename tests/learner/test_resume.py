"""Which run may be continued, and from where."""

import pytest

from learner.resume import refuse_contradiction, refuse_existing
from learner.run_folder import RunFolder
from protocol.errors import ConfigError


def test_a_run_that_is_not_there_cannot_be_resumed(tmp_path):
    with pytest.raises(ConfigError, match=r"no run folder .*nowhere to resume"):
        refuse_existing(tmp_path / "nowhere", resume=True)


def test_an_empty_folder_is_nobodys_and_a_file_is_refused(tmp_path):
    refuse_existing(tmp_path, resume=False)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file"):
        refuse_existing(tmp_path / "file", resume=True)


def test_an_empty_folder_is_no_run_yet(tmp_path):
    refuse_existing(tmp_path, resume=False)
    with pytest.raises(ConfigError, match="no run folder"):
        refuse_existing(tmp_path, resume=True)


def test_a_file_is_no_run_folder(tmp_path):
    (tmp_path / "file").touch()
    for resume in (False, True):
        with pytest.raises(ConfigError, match="file is a file"):
            refuse_existing(tmp_path / "file", resume=resume)


@pytest.fixture
def folder(tmp_path, make_config):
    made = RunFolder(tmp_path / "runs" / "one")
    made.create(make_config(), resume=False)
    return made


def test_a_resumed_run_keeps_what_its_checkpoints_were_made_with(folder, make_config):
    config = make_config()
    refuse_contradiction(folder.path, config)
    longer = config.model_copy(update={"run": config.run.model_copy(update={"max_steps": 999})})
    refuse_contradiction(folder.path, longer)
    generation = config.generation.model_copy(update={"group_size": 6})
    other = config.model_copy(update={"generation": generation})
    size = config.generation.group_size
    with pytest.raises(ConfigError, match=rf"generation.group_size was {size} and is 6.*--config"):
        refuse_contradiction(folder.path, other)
