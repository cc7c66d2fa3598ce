import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import numpy as np
import pytest

from learner.algorithms.dppo import dppo


def test_advantages_are_rewards_less_the_groups_mean(rewards):
    assert dppo().advantages(rewards).tolist() == [0.5, 0.0, -0.5, 0.0, 0.0, 0.0]


def test_the_penalty_pulls_towards_the_policy_that_sampled(gradient):
    # 2 * 1e-3 * log rho / 3, all that is left without advantage
    expected = 2e-3 * np.log([1.25, 2.5, 0.5]) / 3
    np.testing.assert_allclose(gradient(dppo(), 0.0), expected, rtol=1e-5)


def test_its_penalty_teaches_without_advantage():
    assert dppo().zero_advantages_teach
    assert not dppo(penalty=0.0).zero_advantages_teach
    assert not dppo().needs_reference


@pytest.mark.parametrize(
    ("knobs", "advantage", "expected"),
    [
        # probabilities rose by 0.05 and 0.3, and fell by 0.4
        ({"penalty": 0.0}, 1.0, [-1.25 / 3, 0, -0.5 / 3]),
        ({"penalty": 0.0}, -1.0, [1.25 / 3, 2.5 / 3, 0]),
        ({"penalty": 0.0, "mask_high": 0.35}, 1.0, [-1.25 / 3, -2.5 / 3, -0.5 / 3]),
        ({"penalty": 0.0, "mask_low": 0.5}, -1.0, [1.25 / 3, 2.5 / 3, 0.5 / 3]),
    ],
)
def test_the_gradient_by_hand(gradient, knobs, advantage, expected):
    got = gradient(dppo(**knobs), advantage)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)
