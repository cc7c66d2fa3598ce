import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import numpy as np
import pytest

from learner.algorithms.gspo import gspo

S = 1.5625 ** (1 / 3)


def test_advantages_are_those_of_each_group(rewards):
    advantages_B = gspo().advantages(rewards)
    np.testing.assert_allclose(advantages_B, [0.999998, 0, -0.999998, 0, 0, 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("knobs", "advantage", "expected"),
    [
        # s = (1.25 * 2.5 * 0.5)^(1/3) = 1.1604 is above 1.0004
        ({}, 1.0, [0, 0, 0]),
        ({}, -1.0, [S / 3, S / 3, S / 3]),
        ({"clip_high": 0.2}, 1.0, [-S / 3, -S / 3, -S / 3]),
    ],
)
def test_the_gradient_by_hand(gradient, knobs, advantage, expected):
    got = gradient(gspo(**knobs), advantage)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)
