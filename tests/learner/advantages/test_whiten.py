import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.advantages.whiten import whiten

EIGHTHS = st.integers(-40, 40).map(lambda eighths: eighths / 8)
BATCHES = st.lists(st.tuples(EIGHTHS, st.integers(0, 5)), min_size=1, max_size=9)


def by_token(batch):
    """The same advantages as [B, T] and a mask, 1e4 in the padding."""
    advantages_BT = np.full((len(batch), 5), 1e4)
    mask_BT = np.zeros((len(batch), 5), dtype=bool)
    for row, (advantage, num_tokens) in enumerate(batch):
        advantages_BT[row, :num_tokens] = advantage
        mask_BT[row, :num_tokens] = True
    return advantages_BT, mask_BT


def test_completions_are_weighed_by_their_tokens():
    # tokens 3, 1: mean (3 * 1 + 1 * 5) / 4 = 2, variance (3 * 1 + 1 * 9) / 4 = 3
    # -> (1 - 2) / sqrt(3) and (5 - 2) / sqrt(3); unweighted the mean would be 3
    expected = [-1 / math.sqrt(3), 3 / math.sqrt(3)]
    found_B = whiten([1.0, 5.0], [3, 1], eps=0.0)
    assert found_B.tolist() == pytest.approx(expected, rel=1e-6)
    assert found_B.dtype == np.float32


def test_tokens_by_hand():
    # in the mask 0, 2, 4: mean 2, variance (4 + 0 + 4) / 3, std sqrt(8 / 3)
    found_BT = whiten([[0.0, 2.0], [4.0, 1e4]], [[True, True], [True, False]], eps=0.0)
    step = 2 / math.sqrt(8 / 3)
    np.testing.assert_allclose(found_BT, [[-step, 0.0], [step, 0.0]], rtol=1e-6)


def test_the_mean_can_be_kept():
    # mean 3, std 1: (2 - 3) / 1 + 3 and (4 - 3) / 1 + 3
    assert whiten([2.0, 4.0], [1, 1], keep_mean=True, eps=0.0).tolist() == [2.0, 4.0]
    # mean 10, std 5
    assert whiten([5.0, 15.0], [1, 1], keep_mean=True, eps=0.0).tolist() == [9.0, 11.0]


def test_eps_is_added_to_the_std():
    # deviations +-1, std 1: 1 / (1 + 1)
    assert whiten([0.0, 2.0], [1, 1], eps=1.0).tolist() == [-0.5, 0.5]


@pytest.mark.parametrize("hidden", [1e4, math.nan, math.inf])
def test_what_does_not_count_is_zero_and_changes_nothing(hidden):
    assert whiten([1.0, hidden, 3.0], [2, 0, 2], eps=0.0).tolist() == [-1.0, 0.0, 1.0]


@pytest.mark.parametrize("advantages_B", [[0.0] * 3, [0.7] * 3, [0.3, 0.1 + 0.2, 0.3], [-5.0] * 3])
def test_equal_advantages_give_exact_zeros_in_spite_of_rounding(advantages_B):
    assert whiten(advantages_B, [1, 2, 3]).tolist() == [0.0] * 3


def test_equal_advantages_stay_as_they_are_if_the_mean_is_kept():
    assert whiten([0.5, 0.5, 9.0], [1, 2, 0], keep_mean=True).tolist() == [0.5, 0.5, 0.0]


def test_a_batch_in_which_nothing_counts_is_all_zeros():
    assert whiten([1.0, 2.0], [0, 0]).tolist() == [0.0, 0.0]
    assert whiten(np.ones((0, 4)), np.ones((0, 4))).shape == (0, 4)


@given(BATCHES)
def test_advantages_of_completions_are_those_of_their_tokens(batch):
    advantages_BT, mask_BT = by_token(batch)
    found_BT = whiten(advantages_BT, mask_BT)
    found_B = whiten([a for a, _ in batch], [n for _, n in batch])
    np.testing.assert_allclose(found_BT, np.where(mask_BT, found_B[:, None], 0.0), atol=1e-6)


@given(BATCHES)
def test_the_result_has_mean_zero_and_variance_one_over_tokens(batch):
    tokens = [token for token, count in zip(*map(np.ravel, by_token(batch)), strict=True) if count]
    found_BT = whiten(*by_token(batch))
    whitened = found_BT[by_token(batch)[1]].astype(np.float64)
    if len(set(tokens)) > 1:
        assert whitened.mean() == pytest.approx(0.0, abs=1e-6)
        assert whitened.var() == pytest.approx(1.0, abs=1e-5)
    else:
        assert not whitened.any()


@given(BATCHES, st.integers(-50, 50), st.sampled_from([0.5, 2.0, 16.0]))
def test_neither_shift_nor_scale_matters(batch, shift, scale):
    tokens_B = [num_tokens for _, num_tokens in batch]
    changed_B = [advantage * scale + shift for advantage, _ in batch]
    found_B = whiten(changed_B, tokens_B)
    np.testing.assert_allclose(found_B, whiten([a for a, _ in batch], tokens_B), atol=1e-5)


@given(BATCHES, st.randoms())
def test_the_order_of_completions_does_not_matter(batch, random):
    found = dict(zip(batch, whiten(*np.array(batch).T).tolist(), strict=True))
    shuffled = random.sample(batch, len(batch))
    expected = [found[completion] for completion in shuffled]
    assert whiten(*np.array(shuffled).T).tolist() == pytest.approx(expected, abs=1e-6)
