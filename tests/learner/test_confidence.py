"""Intervals and paired p-values, by hand and against brute force."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.confidence import (
    MAX_EXACT_PROMPTS,
    bootstrap_interval,
    mean_interval,
    paired_p_value,
    wilson_interval,
)


def test_wilsons_interval_by_hand():
    # p = 0.3, n = 20, z^2 = 3.8415: middle (0.3 + 0.09604) / 1.19207 = 0.33223
    # half 1.95996 * sqrt(0.0105 + 0.0024009) / 1.19207 = 0.18675
    assert wilson_interval(6, 20) == pytest.approx((0.14548, 0.51898), abs=1e-4)


@pytest.mark.parametrize(("right", "interval"), [(0, (0.0, 0.16113)), (20, (0.83887, 1.0))])
def test_wilsons_interval_has_a_width_at_the_ends(right, interval):
    assert wilson_interval(right, 20) == pytest.approx(interval, abs=1e-4)


def test_of_nothing_the_interval_is_nan():
    assert all(math.isnan(end) for end in (*wilson_interval(0, 0), *bootstrap_interval([])))


def test_the_bootstrap_repeats_and_covers_the_normal_interval():
    values = np.random.default_rng(1).random(200)
    low, high = bootstrap_interval(values)
    assert (low, high) == bootstrap_interval(values)
    assert (low, high) != bootstrap_interval(values, seed=1)
    error = values.std() / math.sqrt(200)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_zeros_and_ones_take_wilsons():
    assert mean_interval([1.0, 0.0, 0.0, 1.0]) == wilson_interval(2, 4)
    assert mean_interval([1.0, 0.5, 0.0, 1.0]) == bootstrap_interval([1.0, 0.5, 0.0, 1.0])


def test_mcnemars_exact_test_by_hand():
    # 9 better, 2 worse, the rest alike: 2 * (1 + 11 + 55) / 2^11
    first = [0.0] * 9 + [1.0] * 2 + [1.0] * 30
    second = [1.0] * 9 + [0.0] * 2 + [1.0] * 30
    assert paired_p_value(first, second) == pytest.approx(2 * 67 / 2048)
    assert paired_p_value(second, first) == pytest.approx(2 * 67 / 2048)


def test_what_does_not_differ_has_p_1():
    assert paired_p_value([0.5, 1.0], [0.5, 1.0]) == 1.0
    assert paired_p_value([], []) == 1.0


@given(st.lists(st.sampled_from([-1.0, -0.75, -0.25, 0.0, 0.5, 1.0]), max_size=9))
def test_few_prompts_are_gone_through_exactly(differences):
    zeros = [0.0] * len(differences)
    moved = [d for d in differences if d]
    signs = itertools.product((-1, 1), repeat=len(moved))
    sums = [abs(sum(s * d for s, d in zip(sign, moved, strict=True))) for sign in signs]
    wanted = np.mean([total >= abs(sum(moved)) - 1e-9 for total in sums])
    assert paired_p_value(zeros, differences) == pytest.approx(wanted)


def test_many_prompts_are_drawn_and_repeat():
    draws = np.random.default_rng(3)
    first, second = draws.random((2, 10 * MAX_EXACT_PROMPTS))
    p = paired_p_value(first, second)
    assert p == paired_p_value(first, second)
    # against the normal approximation of the sign-flip distribution
    d = second - first
    z = abs(d.sum()) / math.sqrt((d**2).sum())
    assert p == pytest.approx(math.erfc(z / math.sqrt(2)), abs=0.02)
    assert paired_p_value(first, first + 0.1 + 0.01 * second) == pytest.approx(1 / 20_001)


def test_a_weighted_figure_is_a_sum_over_the_sum_of_the_weights():
    values, weights = [2.0] * 50 + [8.0] * 50, [1.0] * 50 + [4.0] * 50  # all rows say 2
    assert bootstrap_interval(values, weights) == pytest.approx((2.0, 2.0))


def test_pairs_of_other_prompts_are_refused():
    with pytest.raises(ValueError, match="1 and 2 prompts"):
        paired_p_value([1.0], [1.0, 0.0])
