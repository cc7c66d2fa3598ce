"""What computes a step follows the config of its run epoch."""

import mlx.core as mx
import psutil
import pytest

from learner.replay.configured import Configured
from protocol.errors import CheckpointError
from protocol.policy import load_policy

OTHER = {"learner": {"optimizer": {"learning_rate": 0.5, "schedule": "linear"}}}
CRITIC = {"algorithm": {"name": "ppo"}}


@pytest.fixture
def configured(make_config):
    config = make_config()
    with Configured(config, load_policy(config), rewards=False) as made:
        yield made


def test_another_trainer_takes_the_parameters_over(configured, make_config):
    before, parameters = configured.trainer, configured.trainer.parameters
    masters = {name: array + 1 for name, array in parameters.masters.arrays.items()}
    parameters.masters.replace(masters)
    configured.follow(other := make_config(**OTHER))
    assert configured.config == other
    assert configured.trainer is not before
    assert configured.trainer.policy is before.policy
    assert configured.trainer.parameters.learning_rate(0) == 0.5
    found = configured.trainer.parameters.masters.arrays
    assert all(mx.array_equal(found[name], masters[name]) for name in masters)


def test_a_config_that_is_no_other_to_a_trainer_keeps_it(configured, make_config):
    before = configured.trainer
    configured.follow(other := make_config(checkpoints={"interval": 7}))
    assert (configured.trainer, configured.config) == (before, other)


@pytest.mark.parametrize(
    "sections", [{"learner": {"grad_checkpoint": True}}, {"policy": {"weight_dtype": "float32"}}]
)
def test_a_model_that_is_set_up_in_another_way_is_loaded_again(configured, make_config, sections):
    before = configured.trainer.policy
    configured.follow(make_config(**sections))
    assert configured.trainer.policy is not before


def test_a_critic_can_be_neither_made_up_nor_lost(configured, make_config):
    before = configured.trainer, configured.config
    with pytest.raises(CheckpointError, match="has no critic"):
        configured.follow(make_config(**CRITIC))
    assert (configured.trainer, configured.config) == before


def test_each_config_has_a_rescorer_of_its_own_and_none_is_left(make_config):
    config = make_config(reward_worker={"processes": 1})
    with Configured(config, load_policy(config), rewards=True) as configured:
        first = configured.rescorer
        configured.follow(config)
        assert configured.rescorer is first
        configured.follow(config.model_copy(update={"rewards": make_config().rewards}))
        assert configured.rescorer is first  # equal, not the same
        configured.follow(make_config(reward_worker={"processes": 2}))
        assert configured.rescorer is not first
        assert len(psutil.Process().children()) == 1
    assert psutil.Process().children() == []


def test_rewards_are_asked_for_with_the_think_tags_of_the_model(make_config, monkeypatch):
    told = []
    monkeypatch.setattr("learner.replay.configured.Rescorer", told.append)
    config = make_config()
    policy = load_policy(config)
    policy.tokenizer._think_start, policy.tokenizer._think_end = "<think>", "</think>"
    made = Configured(config, policy, rewards=True)
    assert told[0].model.think_tags == ("<think>", "</think>")
    assert made.config.model.think_tags == "auto"
