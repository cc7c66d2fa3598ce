"""Who shares completions with whom, and what presets fill in."""

import pytest
import yaml

from learner.suites import Suite, refuse_idle_evaluators, suite_of, suites_of, with_presets
from protocol.config_file import dump_config, validated
from protocol.errors import ConfigError


def test_evaluators_of_the_same_way_share_a_suite(make_config):
    sampled = {"num_samples": 4, "temperature": 1.0}
    own = {"rewards": [{"name": "regex_format", "pattern": "x"}]}
    evaluators = [
        {"name": "accuracy"},
        {"name": "pass_at_k", **sampled},
        {"name": "reasoning_gym", "rewards": []},
        {"name": "gsm8k", **own},
        {"name": "math", **own},
        {"name": "perplexity"},
    ]
    config = with_presets(make_config(evaluation={"evaluators": evaluators}))
    data = ("arithmetic:add2?count=2",)
    assert suites_of(config) == [
        Suite(data),
        Suite(data, num_samples=4, temperature=1.0),
        Suite(data, reward_set="gsm8k"),
    ]
    assert suite_of(config, config.evaluation.evaluators[-1]) is None  # it generates nothing


def test_presets_are_filled_in_where_the_config_says_nothing(make_config):
    evaluators = [{"name": "human_eval"}, {"name": "gsm8k", "rewards": [], "data": ["x.jsonl"]}]
    config = with_presets(make_config(evaluation={"evaluators": evaluators}))
    human_eval, gsm8k = config.evaluation.evaluators
    assert human_eval.data == ("human_eval?chat=1",)
    assert [reward.name for reward in human_eval.rewards or ()] == ["code_execution"]
    assert (gsm8k.data, gsm8k.rewards) == (("x.jsonl",), ())
    assert suites_of(config) == [Suite(("human_eval?chat=1",), "human_eval"), Suite(("x.jsonl",))]


def test_a_resolved_config_is_saved_and_resolved_to_itself(make_config):
    config = with_presets(make_config(evaluation={"evaluators": [{"name": "human_eval"}]}))
    again = validated(yaml.safe_load(dump_config(config)))
    assert again == config == with_presets(again)


def test_without_prompts_there_is_no_suite(make_config):
    config = make_config(data={"train": ["arithmetic:add2?count=8"]})
    assert suites_of(with_presets(config)) == []


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"data": {"train": [], "heldout": []}}, r"accuracy has no prompts: .*--data"),
        ({"rewards": []}, r"accuracy has no rewards .*--reward"),
    ],
)
def test_an_evaluation_alone_that_would_say_nothing_is_refused(make_config, sections, told):
    config = with_presets(make_config(run={"max_steps": 0}, **sections))
    with pytest.raises(ConfigError, match=told):
        refuse_idle_evaluators(config)


def test_a_training_without_heldout_prompts_and_presets_alone_are_fine(make_config):
    refuse_idle_evaluators(with_presets(make_config(data={"train": ["a.jsonl"]})))
    alone = make_config(
        run={"max_steps": 0},
        data={"train": []},
        rewards=[],
        evaluation={"evaluators": [{"name": "human_eval"}]},
    )
    refuse_idle_evaluators(with_presets(alone))
