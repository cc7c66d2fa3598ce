import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import numpy as np
import pytest

from learner.algorithms.rloo import rloo


def test_the_other_samples_of_the_group_are_the_baseline(rewards):
    # group 0: 1 - 0 and 0 - 1; group 1 has one valid sample, group 2 equal rewards
    assert rloo().advantages(rewards).tolist() == [1.0, 0.0, -1.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("knobs", "advantage", "expected"),
    [
        # ratios 1.25, 2.5 and 0.5; the completion's terms are summed, over a constant 4
        ({}, 1.0, [0, 0, -0.5 / 4]),
        ({}, -1.0, [1.25 / 4, 2.5 / 4, 0]),
        ({"clip_low": 0.6}, -1.0, [1.25 / 4, 2.5 / 4, 0.5 / 4]),
    ],
)
def test_the_gradient_by_hand(gradient, knobs, advantage, expected):
    got = gradient(rloo(**knobs), advantage)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)
