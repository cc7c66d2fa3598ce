import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import mlx.core as mx
import numpy as np
import pytest

from learner.algorithm import BatchRewards, StepTotals
from learner.algorithms.ppo import ppo

BATCH = BatchRewards(
    rewards_B=(1.0, None, 0.0),
    groups_B=(0, 0, 0),
    completion_tokens_B=(2, 2, 1),
    max_completion_tokens=2,
    values_BT=np.array([[0.5, 0.75], [9.0, 9.0], [0.25, 9.0]], dtype=np.float32),
)


def test_returns_are_what_the_critic_should_have_said():
    # lam = 1: the reward itself. lam = 0: the next estimate, and the reward at the end.
    assert returns(lam=1.0) == [[1.0, 1.0], [0.0, 0.0], [0.0, 0.0]]
    assert returns(lam=0.0) == [[0.75, 1.0], [0.0, 0.0], [0.0, 0.0]]
    assert returns(lam=1.0, gamma=0.5) == [[0.5, 1.0], [0.0, 0.0], [0.0, 0.0]]


def returns(**knobs):
    made = ppo(**knobs).returns
    assert made is not None
    return made(BATCH).tolist()


def test_advantages_are_by_token_and_whitened():
    # lam = 1: 1 - 0.5, 1 - 0.75 and 0 - 0.25: mean 1 / 6, mean square 0.125
    std = np.sqrt(0.125 - 1 / 36)
    expected = (np.array([[0.5, 0.25], [0, 0], [-0.25, 0]]) - 1 / 6) / std
    expected[1] = expected[2, 1] = 0.0
    np.testing.assert_allclose(ppo(lam=1.0).advantages(BATCH), expected, atol=1e-5)


def test_the_critic_is_taught_in_every_minibatch_of_every_epoch():
    made = ppo(epochs=3, minibatches=4)
    assert (made.epochs, made.minibatches, made.zero_advantages_teach) == (3, 4, True)
    assert not made.needs_reference
    assert not made.entropy_teaches
    assert ppo(entropy_coefficient=0.01).entropy_teaches


def test_the_critics_gradient_by_hand(three_tokens):
    # V = 0.1, 0.6 and 0, V_old = 0, R = 1, 1 and -1: 0.5 * (V - R) / 3, and the second is clipped
    totals = StepTotals(num_tokens=3, num_sequences=1, max_completion_tokens=4)
    returns_BT = mx.array([[1.0, 1.0, -1.0, 1e4]])

    def loss(values_BT):
        batch = three_tokens(0.0, values_BT=values_BT, returns_BT=returns_BT)
        return ppo(value_coefficient=0.5).loss(batch, totals)[0]

    gradient_BT = np.array(mx.grad(loss)(mx.array([[0.1, 0.6, 0.0, 1e4]])))
    np.testing.assert_allclose(gradient_BT, [[-0.15, 0.0, 0.5 / 3, 0.0]], rtol=1e-5)


@pytest.mark.parametrize(
    ("knobs", "advantage", "expected"),
    [
        # ratios 1.25, 2.5 and 0.5
        ({}, 1.0, [0, 0, -0.5 / 3]),
        ({}, -1.0, [1.25 / 3, 2.5 / 3, 0]),
        ({"clip_high": 0.3}, 1.0, [-1.25 / 3, 0, -0.5 / 3]),
    ],
)
def test_the_gradient_by_hand(gradient, knobs, advantage, expected):
    got = gradient(ppo(**knobs), advantage)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)
