"""Where a run begins: what of a checkpoint must fit, and what is generated again."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from learner.algorithm import make_algorithm
from learner.checkpoints.position import Position
from learner.checkpoints.writer import CheckpointWriter
from learner.data.sources import Row
from learner.ledger.snapshot import ScoredGroup, Snapshot
from learner.resume import Resume
from learner.run_folder import RunFolder
from learner.starting_point import checkpoint_facts, find_start
from learner.step import Trainer
from protocol.errors import ConfigError
from protocol.policy import load_policy

ROWS = [Row("a", "1+1=", {"answer": "2"}), Row("b", "2+2=", {"answer": "4"})]


@pytest.fixture
def saved(make_config, make_sample, tmp_path):
    """A run folder with a checkpoint of step 4, in which one scored group is kept."""
    config = make_config(
        run={"deterministic": True},
        learner={"max_off_policy_steps": 0},
        generation={"group_size": 2},
    )
    trainer = Trainer(load_policy(config), make_algorithm(config.algorithm), config)
    samples = [make_sample(group=6, sample=sample) for sample in range(2)]
    rollouts = tuple(sample.rollout for sample in samples)
    scores = tuple(sample.score for sample in samples)
    kept = ScoredGroup(6, 1, 1, "an-actor", 3, 3, rollouts, scores)
    position = Position(4, 4, Snapshot(watermark=6, scored=(kept,)))
    folder = RunFolder(tmp_path / "run")
    folder.checkpoints.mkdir(parents=True)

    def save(**facts):
        facts = {**checkpoint_facts(config, ROWS), **facts}
        writer = CheckpointWriter(folder.checkpoints, config, facts)
        writer.save(position, trainer.policy, trainer.parameters)
        writer.wait()

    def find(resume=None, config=config, rows=ROWS):
        facts = checkpoint_facts(config, rows)
        return find_start(resume, folder, trainer.parameters, config, facts)

    save()
    return SimpleNamespace(config=config, folder=folder, save=save, find=find)


def test_a_new_run_begins_at_step_0_whatever_is_there(saved):
    start = saved.find()
    assert (start.position.step, start.checkpoint) == (0, None)


def test_a_resumed_run_begins_at_its_checkpoint_with_the_groups_that_it_kept(saved):
    start = saved.find(Resume())
    assert (start.position.step, start.position.policy_version) == (4, 4)
    assert start.checkpoint == saved.folder.checkpoints / "step_000004"
    (kept,) = start.position.snapshot.scored
    assert (kept.row, kept.actor) == (1, "an-actor")


def test_groups_that_were_sampled_with_other_settings_are_generated_again(saved):
    generation = saved.config.generation.model_copy(update={"temperature": 0.5})
    config = saved.config.model_copy(update={"generation": generation})
    assert saved.find(Resume(), config=config).position.snapshot.scored == ()


def test_other_training_prompts_than_the_checkpoints_are_refused(saved):
    other = [ROWS[0], replace(ROWS[1], columns={"answer": "5"})]
    for rows in (other, ROWS[::-1], ROWS[:1]):
        with pytest.raises(ConfigError, match=r"other training prompts than data\.train"):
            saved.find(Resume(), rows=rows)


def test_a_deterministic_run_goes_on_only_on_its_own_kind_of_machine(saved):
    chip = json.loads(checkpoint_facts(saved.config, ROWS)["fingerprint"]) | {"chip": "Other M9"}
    saved.save(fingerprint=json.dumps(chip))
    with pytest.raises(ConfigError, match="chip was 'Other M9' and is "):
        saved.find(Resume())
    source = saved.folder.path
    assert saved.find(Resume(source=source)).position.step == 4  # a fork promises no bytes
    run = saved.config.run.model_copy(update={"deterministic": False})
    config = saved.config.model_copy(update={"run": run})
    assert saved.find(Resume(), config=config).position.step == 4


def test_a_step_without_a_checkpoint_is_refused_with_those_that_there_are(saved):
    with pytest.raises(ConfigError, match="no checkpoint of step 5: there are 4"):
        saved.find(Resume(5))
