"""Evaluators by name, with the parameters that a config gives them."""

import pytest

from learner.evaluator import EvaluatorRegistry, make_evaluator, traits_of
from protocol.config_evaluation import EvaluatorConfig
from protocol.errors import ConfigError, UnknownPluginError


def section(**fields):
    return EvaluatorConfig.model_validate(fields)


def test_a_configs_parameters_are_bound(make_sample):
    evaluate = make_evaluator(section(name="accuracy", threshold=0.5))
    samples = [make_sample(rewards={"exact": v}, group=i) for i, v in enumerate((0.4, 0.6))]
    assert evaluate(samples).items() >= {"accuracy": 0.5, "n": 2}.items()


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(UnknownPluginError, match="accuracy"):
        make_evaluator(section(name="acuracy"))


@pytest.mark.parametrize("parameters", [{"treshold": 1.0}, {"samples": []}])
def test_a_parameter_that_it_does_not_take_is_refused(parameters):
    with pytest.raises(ConfigError, match=next(iter(parameters))):
        make_evaluator(section(name="accuracy", **parameters))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("accuracy", {"threshold": "much"}), ("pass_at_k", {"k": [0]}), ("pass_at_k", {"k": 1})],
)
def test_a_value_that_its_annotation_refuses_is_refused(name, parameters):
    with pytest.raises(ConfigError, match=f"evaluator '{name}': parameter"):
        make_evaluator(section(name=name, **parameters))


def test_the_policy_is_given_and_cannot_be_set():
    with pytest.raises(ConfigError, match="takes no parameter 'policy'"):
        make_evaluator(section(name="perplexity", policy=1))
    assert make_evaluator(section(name="perplexity")).wants_policy
    assert not make_evaluator(section(name="accuracy")).wants_policy


def test_k_must_not_exceed_the_samples_of_a_prompt():
    make_evaluator(section(name="pass_at_k", k=[1, 4], num_samples=4, temperature=1.0))
    for name in ("pass_at_k", "human_eval"):
        with pytest.raises(ConfigError, match="pass@5 needs at least 5 samples"):
            make_evaluator(section(name=name, k=[1, 5], num_samples=4, temperature=1.0))


def test_a_parameter_without_a_default_is_needed(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def mine(samples, *, needed): return {}\n")
    name = f"{file}:mine"
    with pytest.raises(ConfigError, match="needs the parameter 'needed'"):
        make_evaluator(section(name=name))
    make_evaluator(section(name=name, needed=1))
    assert traits_of(name).generates


def test_presets_stand_in_the_traits():
    registry = EvaluatorRegistry("evaluator", "learner.evaluators")

    @registry("mine", data=["a.jsonl"], rewards=[{"name": "exact_match", "weight": 2.0}])
    def mine(samples):
        return {}

    assert registry.get("mine") is mine
    assert traits_of("human_eval").data == ("human_eval?chat=1",)
    assert [reward.name for reward in traits_of("human_eval").rewards] == ["code_execution"]
