"""Evaluators' keys, which rewards score what, and what keep_best may name."""

import pytest
from pydantic import ValidationError

from protocol.config_evaluation import EvaluationSection, EvaluatorConfig, reward_sets
from protocol.config_section import RewardConfig

MINE = {"name": "exact_match", "weight": 2.0}


def test_the_frameworks_keys_are_no_parameters():
    section = EvaluatorConfig.model_validate(
        {"name": "pass_at_k", "num_samples": 4, "temperature": 0.7, "k": [1, 4]}
    )
    assert section.parameters == {"k": [1, 4]}
    assert (section.num_samples, section.temperature, section.data) == (4, 0.7, None)


def test_several_samples_need_a_temperature():
    with pytest.raises(ValidationError, match="all samples are the same"):
        EvaluatorConfig(name="accuracy", num_samples=2)


def test_every_list_of_rewards_has_one_name():
    run = (RewardConfig(name="exact_match"),)
    evaluators = [
        {"name": "a"},
        {"name": "b", "rewards": [MINE]},
        {"name": "c", "rewards": [MINE]},
        {"name": "d", "rewards": [{"name": "exact_match"}]},
    ]
    section = EvaluationSection.model_validate({"evaluators": evaluators})
    assert reward_sets(run, section) == {"": run, "b": (RewardConfig.model_validate(MINE),)}


@pytest.mark.parametrize("keep_best", ["", "accuracy/accuracy", "-accuracy/n"])
def test_keep_best_names_a_configured_evaluator(make_config, keep_best):
    assert make_config(checkpoints={"keep_best": keep_best}).checkpoints.keep_best == keep_best


@pytest.mark.parametrize("keep_best", ["accuracy", "math/accuracy", "accuracy/", "/accuracy", "-"])
def test_another_keep_best_is_refused(make_config, keep_best):
    with pytest.raises(ValidationError, match="wanted evaluator/figure"):
        make_config(checkpoints={"keep_best": keep_best})
