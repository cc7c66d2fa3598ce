"""Evaluators by name, with the parameters that a config gives them."""

import pytest

from learner.evaluator import make_evaluator
from protocol.config_section import PluginConfig
from protocol.errors import ConfigError, UnknownPluginError


def section(**fields):
    return PluginConfig.model_validate(fields)


def test_a_configs_parameters_are_bound(make_sample):
    evaluate = make_evaluator(section(name="accuracy", threshold=0.5))
    samples = [make_sample(rewards={"exact": value}) for value in (0.4, 0.6)]
    assert evaluate(samples) == {"accuracy": 0.5, "n": 2}


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(UnknownPluginError, match="accuracy"):
        make_evaluator(section(name="acuracy"))


@pytest.mark.parametrize("parameters", [{"treshold": 1.0}, {"samples": []}])
def test_a_parameter_that_it_does_not_take_is_refused(parameters):
    with pytest.raises(ConfigError, match=next(iter(parameters))):
        make_evaluator(section(name="accuracy", **parameters))
