import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import numpy as np
import pytest

from learner.algorithms.reinforce_pp_baseline import reinforce_pp_baseline
from learner.losses.kl import KlPenalty


def test_advantages_are_whitened_over_the_tokens_of_the_batch(rewards):
    # less the group's mean: 0.5, 0, -0.5, masked, 0, 0 with 2, 1, 1, 0, 3 and 4 tokens, 11 in all
    # mean (2 * 0.5 - 0.5) / 11 = 1 / 22; of squares (2 * 0.25 + 0.25) / 11 = 3 / 44
    std = np.sqrt(3 / 44 - 1 / 22**2)
    expected = (np.array([0.5, 0, -0.5, 0, 0, 0]) - 1 / 22) / std
    expected[3] = 0.0
    advantages_B = reinforce_pp_baseline().advantages(rewards)
    np.testing.assert_allclose(advantages_B, expected, rtol=1e-5)


def test_its_kl_is_optional(gradient):
    pulled = reinforce_pp_baseline(kl=KlPenalty(estimator="k2", coefficient=0.3))
    assert pulled.needs_reference
    assert pulled.zero_advantages_teach
    # k2 to the behaviour policy, 0.3 * log ratio / 3, is all that is left without advantage
    expected = 0.1 * np.log([1.25, 2.5, 0.5])
    np.testing.assert_allclose(gradient(pulled, 0.0), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("knobs", "advantage", "expected"),
    [
        # ratios 1.25, 2.5 and 0.5
        ({}, 1.0, [0, 0, -0.5 / 3]),
        ({}, -1.0, [1.25 / 3, 2.5 / 3, 0]),
    ],
)
def test_the_gradient_by_hand(gradient, knobs, advantage, expected):
    got = gradient(reinforce_pp_baseline(**knobs), advantage)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)
