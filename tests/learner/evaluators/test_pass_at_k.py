"""pass@k against the paper's estimator, and by hand."""

from fractions import Fraction
from math import comb

import pytest

from learner.evaluators.pass_at_k import estimate, pass_at_k


def test_the_estimator_by_hand():
    # 5 completions, 2 right, draw 2: all wrong in C(3,2)/C(5,2) = 3/10
    assert estimate(5, 2, 2) == pytest.approx(0.7)
    # 10, 3, 5: C(7,5)/C(10,5) = 21/252
    assert estimate(10, 3, 5) == pytest.approx(1 - 21 / 252)
    assert (estimate(4, 0, 3), estimate(4, 4, 1), estimate(4, 2, 3)) == (0.0, 1.0, 1.0)
    assert estimate(4, 1, 1) == 0.25


@pytest.mark.parametrize(("number", "right", "k"), [(200, 3, 100), (1000, 13, 10), (7, 6, 1)])
def test_it_agrees_with_the_papers_fraction(number, right, k):
    exact = 1 - Fraction(comb(number - right, k), comb(number, k))
    assert estimate(number, right, k) == pytest.approx(float(exact), rel=1e-12)


def test_figures_are_means_over_prompts_with_intervals(make_sample):
    rights = {0: [1, 1, 0, 0], 1: [0, 0, 0, 0], 2: [1, 0]}
    samples = [
        make_sample(reward=float(right), group=group, sample=index)
        for group, found in rights.items()
        for index, right in enumerate(found)
    ]
    found = pass_at_k(samples, k=[1, 2, 3])
    # k = 2: 1 - C(2,2)/C(4,2) = 5/6, 0, 1; k = 3: 1, 0, and the third prompt has too few
    assert found["pass_at_1"] == pytest.approx((0.5 + 0 + 0.5) / 3)
    assert found["pass_at_2"] == pytest.approx((5 / 6 + 0 + 1) / 3)
    assert found["pass_at_3"] == pytest.approx((1 + 0) / 2)
    assert found["n"] == 3
    for k in (1, 2, 3):
        low, high = found[f"pass_at_{k}_low"], found[f"pass_at_{k}_high"]
        assert low <= found[f"pass_at_{k}"] <= high
