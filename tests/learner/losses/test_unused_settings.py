"""A setting that would do nothing is refused, or a run would not be what its config says."""

import pytest

from learner.algorithm import make_algorithm
from protocol.config_learner import AlgorithmSection
from protocol.errors import ConfigError


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"kl": {"estimator": "k3"}}, "set kl.coefficient"),
        ({"off_policy": {"tis_clip": 3.0}}, "tis_clip does nothing with the correction 'none'"),
        ({"off_policy": {"correction": "geo_mask", "tis_clip": 3.0}}, "tis_clip does nothing"),
        ({"kl": {"coef": 0.1}}, "kl.coef = 0.1: there is no such key"),
    ],
)
def test_a_setting_without_an_effect_is_refused(parameters, said):
    with pytest.raises(ConfigError, match=said):
        make_algorithm(AlgorithmSection.model_validate({"name": "grpo", **parameters}))


@pytest.mark.parametrize(
    "off_policy",
    [
        {"correction": "tis", "tis_clip": 3.0},
        {"correction": "token_mask", "token_mask_low": 0.1, "proximal": "interpolated"},
        {"correction": "decoupled", "decoupled_cap": 4.0},
    ],
)
def test_a_setting_of_the_chosen_correction_is_taken(off_policy):
    parameters = {"name": "grpo", "kl": {"coefficient": 0.1}, "off_policy": off_policy}
    assert make_algorithm(AlgorithmSection.model_validate(parameters)).needs_reference
