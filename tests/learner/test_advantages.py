import numpy as np
import pytest

from learner.advantages import group_advantages, per_group


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
