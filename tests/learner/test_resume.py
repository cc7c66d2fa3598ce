"""Which run may be continued, and from where."""

import pytest

from learner.resume import (
    Resume,
    check_start,
    parse_resume,
    refuse_contradiction,
    refuse_existing,
)
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


def changed(config, section, **values):
    tree = config.model_dump()
    tree[section] |= values
    return type(config).model_validate(tree)


def test_a_deterministic_run_keeps_what_its_bytes_depend_on(tmp_path, make_config):
    config = make_config(run={"deterministic": True}, learner={"max_off_policy_steps": 0})
    folder = RunFolder(tmp_path / "run")
    folder.create(config, resume=False)
    refuse_contradiction(folder.path, changed(config, "learner", lease_seconds=7.0))
    for section, key, value in (
        ("learner", "microbatch_tokens", 777),
        ("generation", "temperature", 0.5),
        ("run", "deterministic", False),
        ("data", "pass_reward", 0.5),
    ):
        other = changed(config, section, **{key: value})
        with pytest.raises(ConfigError, match=rf"cannot resume .*{section}.*{value}"):
            refuse_contradiction(folder.path, other)
        refuse_contradiction(folder.path, other, forks=True)


def test_what_follows_resume_is_nothing_a_step_a_run_or_a_checkpoint(folder, tmp_path):
    own = tmp_path / "own"
    checkpoint = folder.checkpoints / "step_000020"
    assert parse_resume(None, own) is None
    assert parse_resume("", own) is None
    assert parse_resume("latest", own) == Resume()
    assert parse_resume("20", own) == Resume(20)
    assert parse_resume("step_000020", own) == Resume(20)
    assert parse_resume(str(folder.path), own) == Resume(None, folder.path)
    assert parse_resume(str(checkpoint), own) == Resume(20, folder.path)
    assert parse_resume(str(checkpoint), folder.path) == Resume(20)  # its own folder: no fork


@pytest.mark.parametrize("text", ["newest", "-1", "2O", "runs/nowhere", "1" * 13])
def test_anything_else_after_resume_is_refused_with_what_may_follow(tmp_path, text):
    with pytest.raises(ConfigError, match=r"is no run folder .*Wanted: nothing .*, a step, a run"):
        parse_resume(text, tmp_path / "own")


def test_a_fork_needs_a_new_folder_and_a_run_that_fits(folder, tmp_path, make_config):
    config, fork = make_config(), Resume(source=folder.path)
    with pytest.raises(ConfigError, match="has no checkpoint yet"):
        check_start(tmp_path / "new", fork, config)
    (folder.checkpoints / "step_000004").mkdir()
    with pytest.raises(ConfigError, match="has no checkpoint of step 5: there are 4"):
        check_start(folder.path, Resume(5), config)
    check_start(folder.path, Resume(4), config)
    check_start(tmp_path / "new", fork, config)
    check_start(folder.path, Resume(), config)
    with pytest.raises(ConfigError, match="exists"):
        check_start(folder.path, fork, config)
    with pytest.raises(ConfigError, match="no run folder"):
        check_start(tmp_path / "new", Resume(), config)
    with pytest.raises(ConfigError, match=r"run\.seed was 0 and is 5"):
        check_start(tmp_path / "new", fork, changed(config, "run", seed=5))


def test_a_deterministic_schedule_keeps_its_end(tmp_path, make_config):
    def config(max_steps, schedule):
        return make_config(
            run={"deterministic": True, "max_steps": max_steps},
            learner={"max_off_policy_steps": 0, "optimizer": {"schedule": schedule}},
        )

    for schedule in ("constant", "linear"):
        folder = RunFolder(tmp_path / schedule)
        folder.create(config(5, schedule), resume=False)
        if schedule == "constant":
            refuse_contradiction(folder.path, config(9, schedule))
        else:
            with pytest.raises(ConfigError, match=r"run\.max_steps was 5 and is 9"):
                refuse_contradiction(folder.path, config(9, schedule))


def test_of_a_section_only_what_differs_is_named(folder, make_config):
    config = make_config(run={"deterministic": True}, learner={"max_off_policy_steps": 0})
    folder.path.joinpath("config.yaml").unlink()
    folder.release()
    folder.create(config, resume=True)
    optimizer = config.learner.optimizer.model_copy(update={"learning_rate": 0.25})
    other = changed(config, "learner", optimizer=optimizer.model_dump())
    with pytest.raises(ConfigError) as refused:
        refuse_contradiction(folder.path, other)
    assert "learner.optimizer.learning_rate was 1e-06 and is 0.25" in str(refused.value)
    assert "betas" not in str(refused.value)
