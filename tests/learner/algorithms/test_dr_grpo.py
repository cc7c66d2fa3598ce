import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import numpy as np
import pytest

from learner.algorithms.dr_grpo import dr_grpo


def test_advantages_are_rewards_less_the_groups_mean(rewards):
    assert dr_grpo().advantages(rewards).tolist() == [0.5, 0.0, -0.5, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("knobs", "advantage", "expected"),
    [
        # ratios 1.25, 2.5 and 0.5; 1 completion, divided by the 4 tokens that it might have had
        ({}, 1.0, [0, 0, -0.5 / 4]),
        ({}, -1.0, [1.25 / 4, 2.5 / 4, 0]),
        ({"clip_high": 0.3}, 1.0, [-1.25 / 4, 0, -0.5 / 4]),
    ],
)
def test_the_gradient_by_hand(gradient, knobs, advantage, expected):
    got = gradient(dr_grpo(**knobs), advantage)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)
