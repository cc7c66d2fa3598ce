import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from learner.advantages.gae import gae_advantages, gae_returns

NUM_COLUMNS = 5
ROWS = st.tuples(st.one_of(st.none(), st.floats(-2, 2)), st.integers(0, NUM_COLUMNS))
BATCHES = st.lists(ROWS, min_size=1, max_size=4)
FACTORS = st.sampled_from([0.0, 0.5, 0.95, 1.0])


def random_values(num_rows, seed=0):
    return np.random.default_rng(seed).normal(size=(num_rows, NUM_COLUMNS)).astype(np.float32)


def test_gae_by_hand():
    # V = 1, 2, 3; r = 4 at the last; gamma 0.5, lam 0.5
    # delta = 0.5 * 2 - 1 = 0;  0.5 * 3 - 2 = -0.5;  4 + 0.5 * 0 - 3 = 1
    # A_2 = 1;  A_1 = -0.5 + 0.25 * 1 = -0.25;  A_0 = 0 + 0.25 * -0.25 = -0.0625
    values_BT = np.array([[1.0, 2.0, 3.0, 1e4]], dtype=np.float32)
    found_BT = gae_advantages([4.0], values_BT, [3], gamma=0.5, lam=0.5)
    assert found_BT.tolist() == [[-0.0625, -0.25, 1.0, 0.0]]
    assert found_BT.dtype == np.float32
    # R = A + V
    returns_BT = gae_returns([4.0], values_BT, [3], gamma=0.5, lam=0.5)
    assert returns_BT.tolist() == [[0.9375, 1.75, 4.0, 0.0]]
    assert returns_BT.dtype == np.float32


def test_a_completion_that_fills_the_batch_ends_all_the_same():
    # the value after the last column is 0: delta = 1 - 0.25
    values_BT = np.array([[0.25]], dtype=np.float32)
    assert gae_advantages([1.0], values_BT, [1], gamma=1.0, lam=1.0).tolist() == [[0.75]]


@pytest.mark.parametrize("padding", [1e4, np.nan, np.inf])
def test_masked_and_empty_completions_and_padding_are_zeros(padding):
    values_BT = np.full((3, 2), padding, dtype=np.float32)
    values_BT[0, 0] = 0.5
    for estimate, first in ((gae_advantages, 0.5), (gae_returns, 1.0)):
        found_BT = estimate([1.0, None, 1.0], values_BT, [1, 2, 0], gamma=1.0, lam=0.9)
        assert found_BT.tolist() == [[first, 0.0], [0.0, 0.0], [0.0, 0.0]]


@given(BATCHES, FACTORS, FACTORS)
def test_the_recursion_is_the_explicit_sum(batch, gamma, lam):
    values_BT = random_values(len(batch))
    found_BT = gae_advantages(*rewards_and_tokens(batch, values_BT), gamma=gamma, lam=lam)
    for row, (reward, num_tokens) in enumerate(batch):
        values = [*values_BT[row, :num_tokens].astype(float).tolist(), 0.0]
        for t in range(NUM_COLUMNS):
            expected = 0.0
            if reward is not None:
                for k in range(t, num_tokens):
                    now = reward if k == num_tokens - 1 else 0.0
                    delta = now + gamma * values[k + 1] - values[k]
                    expected += (gamma * lam) ** (k - t) * delta
            assert found_BT[row, t] == pytest.approx(expected, abs=1e-5)


def rewards_and_tokens(batch, values_BT):
    rewards_B, completion_tokens_B = zip(*batch, strict=True)
    return rewards_B, values_BT, completion_tokens_B


@given(BATCHES)
def test_with_lam_and_gamma_1_an_advantage_is_reward_less_value(batch):
    values_BT = random_values(len(batch))
    arguments = rewards_and_tokens(batch, values_BT)
    found_BT = gae_advantages(*arguments, gamma=1.0, lam=1.0)
    returns_BT = gae_returns(*arguments, gamma=1.0, lam=1.0)
    for row, (reward, num_tokens) in enumerate(batch):
        counted = num_tokens if reward is not None else 0
        expected_T = (reward or 0.0) - values_BT[row, :counted]
        np.testing.assert_allclose(found_BT[row, :counted], expected_T, atol=1e-5)
        np.testing.assert_allclose(returns_BT[row, :counted], reward or 0.0, atol=1e-5)
        assert not found_BT[row, counted:].any()


@given(BATCHES, FACTORS)
def test_with_lam_0_an_advantage_is_one_steps_surprise(batch, gamma):
    values_BT = random_values(len(batch))
    found_BT = gae_advantages(*rewards_and_tokens(batch, values_BT), gamma=gamma, lam=0.0)
    for row, (reward, num_tokens) in enumerate(batch):
        if reward is not None and num_tokens > 1:
            expected = gamma * values_BT[row, 1] - values_BT[row, 0]
            assert found_BT[row, 0] == pytest.approx(expected, abs=1e-5)


@given(st.floats(-2, 2), arrays(np.float32, (1, 4), elements=st.floats(-2, 2, width=32)), FACTORS)
def test_a_critic_that_is_right_leaves_no_advantage(reward, values_BT, lam):
    values_BT[:] = reward
    found_BT = gae_advantages([reward], values_BT, [4], gamma=1.0, lam=lam)
    np.testing.assert_allclose(found_BT, 0.0, atol=1e-6)


@given(BATCHES, FACTORS, FACTORS, st.randoms())
def test_the_order_of_completions_does_not_matter(batch, gamma, lam, random):
    order = random.sample(range(len(batch)), len(batch))
    values_BT = random_values(len(batch))
    found_BT = gae_returns(*rewards_and_tokens(batch, values_BT), gamma=gamma, lam=lam)
    shuffled = rewards_and_tokens([batch[row] for row in order], values_BT[order])
    np.testing.assert_array_equal(gae_returns(*shuffled, gamma=gamma, lam=lam), found_BT[order])
