import pytest

from learner.losses.summary import token_figures


def test_sums_become_means_over_tokens():
    assert token_figures({"entropy": 6.0, "clip_fraction": 1.0}, 4) == {
        "entropy": 1.5,
        "clip_fraction": 0.25,
    }


def test_the_effective_sample_size_by_hand():
    # ratios 1 and 3: mean 2, mean square 5, 4 / 5
    figures = token_figures({"importance_ratio": 4.0, "importance_ratio_squared": 10.0}, 2)
    assert figures == {"importance_ratio": 2.0, "ess": pytest.approx(0.8)}


def test_explained_variance_by_hand():
    # returns 0 and 2 (mean 1, variance 2 - 1 = 1), errors 0 and 1 (variance 0.5 - 0.25 = 0.25)
    sums = {"return": 2.0, "return_squared": 4.0, "value_error": 1.0, "value_error_squared": 1.0}
    figures = token_figures(sums, 2)
    assert figures == {"return": 1.0, "value/explained_variance": pytest.approx(0.75)}


def test_equal_returns_explain_nothing():
    sums = {"return": 2.0, "return_squared": 2.0, "value_error": 0.0, "value_error_squared": 0.0}
    assert "value/explained_variance" not in token_figures(sums, 2)
