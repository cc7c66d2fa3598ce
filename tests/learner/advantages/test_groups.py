from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.advantages.groups import equal_rewards, group_advantages, leave_one_out, per_group

REWARDS = st.integers(-8, 8).map(lambda eighths: eighths / 8)
GROUPS = st.lists(st.one_of(st.none(), REWARDS), max_size=9)
ESTIMATORS = (group_advantages, leave_one_out)


def test_group_advantages_by_hand():
    # mean (1 + 0 + 0 + 1) / 4 = 0.5, population std sqrt(4 * 0.25 / 4) = 0.5  ->  +-0.5 / 0.5
    advantages_G = group_advantages([1.0, 0.0, 0.0, 1.0], eps=0.0)
    assert advantages_G.tolist() == [1.0, -1.0, -1.0, 1.0]
    assert advantages_G.dtype == np.float32


def test_eps_is_added_to_the_std():
    # deviations +-0.5, std 0.5: 0.5 / (0.5 + 0.5) = 0.5
    assert group_advantages([1.0, 0.0], eps=0.5).tolist() == [0.5, -0.5]


def test_without_the_std_an_advantage_is_the_deviation_from_the_mean():
    # mean (3 + 1 + 2 + 2) / 4 = 2
    assert group_advantages([3.0, 1.0, 2.0, 2.0], norm_by_std=False).tolist() == [1, -1, 0, 0]


def test_a_masked_sample_counts_in_neither_mean_nor_std_and_gets_zero():
    # valid 4, 0: mean 2, std 2  ->  +1, -1; counted as a reward of 0 it would make the mean 4/3
    assert group_advantages([4.0, None, 0.0], eps=0.0).tolist() == [1.0, 0.0, -1.0]


@pytest.mark.parametrize("rewards_G", [[], [1.0], [None, None], [None, 5.0, None]])
def test_a_group_with_fewer_than_two_valid_samples_has_no_advantage(rewards_G):
    assert group_advantages(rewards_G).tolist() == [0.0] * len(rewards_G)


@pytest.mark.parametrize(
    "rewards_G", [[0.0] * 4, [1.0] * 4, [0.1] * 3, [0.1 + 0.2, 0.3], [1e9 + 0.1, 1e9]]
)
def test_equal_rewards_give_exact_zeros_in_spite_of_rounding(rewards_G):
    # [0.1 + 0.2, 0.3] differ by 6e-17: sums of the same rewards in another order
    assert group_advantages(rewards_G).tolist() == [0.0] * len(rewards_G)


def test_rewards_that_differ_little_but_truly_keep_their_advantage():
    # deviations +-0.0005, std 0.0005, eps 1e-6: 0.0005 / 0.000501
    expected = 0.0005 / 0.000501
    assert group_advantages([1.001, 1.0]) == pytest.approx([expected, -expected], rel=1e-5)


def test_advantages_match_a_float64_reference_on_random_groups():
    rng = np.random.default_rng(0)
    for _ in range(50):
        rewards = rng.normal(size=8)
        keep = rng.random(8) < 0.7
        masked = np.ma.masked_array(rewards, ~keep)
        expected = np.ma.filled((masked - masked.mean()) / (masked.std() + 1e-6), 0.0)
        if keep.sum() < 2:
            expected = np.zeros(8)
        found = group_advantages(
            [float(r) if k else None for r, k in zip(rewards, keep, strict=True)]
        )
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_per_group_keeps_mixed_groups_of_unequal_size_apart():
    # group 7: 1, 0, masked -> +-0.5 and 0; group 2: 10, 30 -> mean 20, deviations -10, 10
    rewards_B = [1.0, 10.0, None, 30.0, 0.0]
    groups_B = [7, 2, 7, 2, 7]
    advantages_B = per_group(
        lambda rewards_G: group_advantages(rewards_G, norm_by_std=False), rewards_B, groups_B
    )
    assert advantages_B.tolist() == [0.5, -10.0, 0.0, 10.0, -0.5]
    assert advantages_B.dtype == np.float32


def test_leave_one_out_by_hand():
    # 4 - (1 + 1) / 2 = 3;  1 - (4 + 1) / 2 = -1.5, twice
    advantages_G = leave_one_out([4.0, 1.0, 1.0])
    assert advantages_G.tolist() == [3.0, -1.5, -1.5]
    assert advantages_G.dtype == np.float32


def test_a_masked_sample_is_no_ones_baseline():
    # valid 5, 3: 5 - 3 and 3 - 5; counted as a reward of 0 it would make the first 5 - 1.5
    assert leave_one_out([5.0, None, 3.0]).tolist() == [2.0, 0.0, -2.0]


@given(GROUPS)
def test_leave_one_out_is_the_reward_less_the_mean_of_the_others(rewards_G):
    found_G = leave_one_out(rewards_G)
    for sample, reward in enumerate(rewards_G):
        others = [r for i, r in enumerate(rewards_G) if i != sample and r is not None]
        if reward is None or not others:
            assert found_G[sample] == 0.0
        else:
            assert found_G[sample] == pytest.approx(reward - sum(others) / len(others), abs=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@given(rewards_G=GROUPS)
def test_advantages_of_a_group_sum_to_zero(estimator, rewards_G):
    assert estimator(rewards_G).sum() == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@given(rewards_G=GROUPS, shift=st.integers(-100, 100))
def test_the_same_bonus_for_all_samples_changes_nothing(estimator, rewards_G, shift):
    shifted_G = [None if reward is None else reward + shift for reward in rewards_G]
    np.testing.assert_allclose(estimator(shifted_G), estimator(rewards_G), atol=1e-5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@given(rewards_G=GROUPS, random=st.randoms())
def test_the_order_of_samples_does_not_matter(estimator, rewards_G, random):
    order = list(range(len(rewards_G)))
    random.shuffle(order)
    found_G = estimator([rewards_G[sample] for sample in order])
    np.testing.assert_allclose(found_G, estimator(rewards_G)[order], atol=1e-6)


@given(GROUPS)
def test_a_better_reward_never_has_a_lower_advantage(rewards_G):
    valid = [(r, a) for r, a in zip(rewards_G, leave_one_out(rewards_G), strict=True) if r]
    assert all(low[1] <= high[1] for low, high in pairwise(sorted(valid)))


@pytest.mark.parametrize(
    ("rewards_G", "expected"),
    [
        ([], True),
        ([None, None], True),
        ([None, 5.0], True),  # nothing to compare with
        ([0.0, 0.0], True),
        ([0.1 + 0.2, None, 0.3], True),  # 6e-17 apart
        ([1.0, 1.0 + 2e-9], False),  # 2e-9 > 1e-9 * 1
        ([-1e9, -1e9 + 0.5], True),  # 0.5 <= 1e-9 * 1e9 = 1
        ([0.0, 1e-30], False),
        ([0, None, 1], False),
    ],
)
def test_rewards_are_equal_within_a_billionth_of_the_largest(rewards_G, expected):
    assert equal_rewards(rewards_G) is expected


@given(GROUPS)
def test_exactly_groups_of_equal_rewards_have_no_advantage(rewards_G):
    for estimator in ESTIMATORS:
        assert (not estimator(rewards_G).any()) == equal_rewards(rewards_G)
