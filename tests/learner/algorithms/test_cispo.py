import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import numpy as np
import pytest

from learner.algorithms.cispo import cispo


def test_advantages_are_those_of_each_group(rewards):
    advantages_B = cispo().advantages(rewards)
    np.testing.assert_allclose(advantages_B, [0.999998, 0, -0.999998, 0, 0, 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("knobs", "advantage", "expected"),
    [
        # every token keeps a gradient, its ratio of at most 5
        ({}, 1.0, [-1.25 / 3, -2.5 / 3, -0.5 / 3]),
        ({}, -1.0, [1.25 / 3, 2.5 / 3, 0.5 / 3]),
        ({"clip_high": 0.2, "clip_low": 0.2}, 1.0, [-1.2 / 3, -1.2 / 3, -0.8 / 3]),
    ],
)
def test_the_gradient_by_hand(gradient, knobs, advantage, expected):
    got = gradient(cispo(**knobs), advantage)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)
