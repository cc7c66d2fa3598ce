import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import numpy as np
import pytest

from learner.algorithms.dapo import dapo


def test_without_a_buffer_advantages_are_grpos(rewards):
    advantages_B = dapo().advantages(rewards)
    np.testing.assert_allclose(advantages_B, [0.999998, 0, -0.999998, 0, 0, 0], rtol=1e-6)


def test_long_completions_have_their_reward_lowered_before_advantages_are_taken(rewards):
    # limit 4, buffer 2: of 3 tokens half of 0.5, of 4 all of it: rewards 0.75 and 0.5 in group 2,
    # 0.125 above and below their mean, which is also their std
    advantages_B = dapo(overlong_buffer=2, overlong_penalty=0.5).advantages(rewards)
    np.testing.assert_allclose(advantages_B, [1, 0, -1, 0, 1, -1], atol=1e-5)


@pytest.mark.parametrize(
    ("knobs", "advantage", "expected"),
    [
        # ratios 1.25 <= 1.28, 2.5 > 1.28
        ({}, 1.0, [-1.25 / 3, 0, -0.5 / 3]),
        ({}, -1.0, [1.25 / 3, 2.5 / 3, 0]),
        ({"clip_high": 0.2}, 1.0, [0, 0, -0.5 / 3]),
    ],
)
def test_the_gradient_by_hand(gradient, knobs, advantage, expected):
    got = gradient(dapo(**knobs), advantage)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)
