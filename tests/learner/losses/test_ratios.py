import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import math

import mlx.core as mx
import numpy as np
import pytest

from learner.losses.ratios import MAX_LOG_RATIO, masked_log_ratio, mismatch_metrics

LOG2 = math.log(2.0)


def test_the_log_ratio_is_clamped_so_that_no_token_overflows():
    # log ratios 200 and -200: exp(200) is infinite in float32, exp(20) is not
    log_ratio_BT = masked_log_ratio(
        mx.array([[100.0, -100.0, 0.5]]), mx.array([[-100.0, 100.0, 0.25]]), mx.array([[True] * 3])
    )
    assert log_ratio_BT.tolist() == [[MAX_LOG_RATIO, -MAX_LOG_RATIO, 0.25]]


def test_mismatch_by_hand():
    # ratios 2, 0.5 and 1: sum 3.5, of squares 4 + 0.25 + 1
    # rho - log rho - 1: (2 - log 2 - 1) + (0.5 + log 2 - 1) + 0 = 0.5
    metrics = mismatch_metrics(
        mx.array([[LOG2, -LOG2], [-1.0, 7.0]]),
        mx.array([[0.0, 0.0], [-1.0, 0.0]]),
        mx.array([[True, True], [True, False]]),
    )
    assert {name: value.item() for name, value in metrics.items()} == pytest.approx(
        {"importance_ratio": 3.5, "importance_ratio_squared": 5.25, "mismatch_kl": 0.5}, rel=1e-5
    )


@pytest.mark.parametrize("garbage", [1e4, -1e4, math.inf, -math.inf, math.nan])
def test_garbage_in_the_padding_changes_no_metric_and_no_gradient(garbage):
    logprobs_BT = mx.array([[-1.0, garbage]])
    behaviour_BT, mask_BT = mx.array([[-1.5, -garbage]]), mx.array([[True, False]])
    metrics = mismatch_metrics(logprobs_BT, behaviour_BT, mask_BT)
    assert metrics["importance_ratio"].item() == pytest.approx(math.exp(0.5))

    def total(logprobs_BT):
        return mx.exp(masked_log_ratio(logprobs_BT, behaviour_BT, mask_BT)).sum()

    np.testing.assert_allclose(
        np.array(mx.grad(total)(logprobs_BT)), [[math.exp(0.5), 0.0]], rtol=1e-6
    )


def test_a_small_mismatch_keeps_its_digits():
    # rho - log rho - 1 is 0.5e-8 to first order for a log ratio of 1e-4; 1 + 1e-4 alone loses them
    metrics = mismatch_metrics(mx.array([[1e-4]]), mx.array([[0.0]]), mx.array([[True]]))
    assert metrics["mismatch_kl"].item() == pytest.approx(0.5e-8, rel=0.01)
