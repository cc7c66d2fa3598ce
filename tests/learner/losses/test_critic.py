import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import math

import mlx.core as mx
import numpy as np
import pytest

from learner.losses.critic import value_loss

MASK_BT = mx.array([[True, True, True, False]])


def loss_and_gradient(garbage=0.0):
    def total(values_BT):
        loss_BT, metrics = value_loss(
            values_BT,
            mx.array([[0.0, 0.0, 0.0, garbage]]),
            mx.array([[1.0, 1.0, -1.0, -garbage]]),
            MASK_BT,
            value_clip=0.2,
        )
        return loss_BT.sum(), loss_BT, metrics

    values_BT = mx.array([[0.1, 0.6, 0.6, garbage]])
    (_, loss_BT, metrics), gradient_BT = mx.value_and_grad(total)(values_BT)
    figures = {name: value.item() for name, value in metrics.items()}
    return np.array(loss_BT)[0], np.array(gradient_BT)[0], figures


def test_the_value_loss_by_hand():
    # V_old = 0, so V may be seen from -0.2 to 0.2.
    # V = 0.1, R = 1: 0.5 * 0.81, gradient -0.9
    # V = 0.6, R = 1: max(0.4^2, (0.2 - 1)^2) / 2 = 0.32, clipped: it has gone far enough
    # V = 0.6, R = -1: max(1.6^2, 1.2^2) / 2 = 1.28, free: it went the wrong way, gradient 1.6
    loss_T, gradient_T, _ = loss_and_gradient()
    np.testing.assert_allclose(loss_T, [0.405, 0.32, 1.28, 0.0], rtol=1e-5)
    np.testing.assert_allclose(gradient_T, [-0.9, 0.0, 1.6, 0.0], rtol=1e-5)


def test_the_metrics_by_hand():
    # R = 1, 1, -1 and V_old = 0: sums of R and of R - V_old are 1, of their squares 3
    _, _, metrics = loss_and_gradient()
    assert metrics == pytest.approx(
        {
            "value_loss": 2.005,
            "value_clip_fraction": 1,
            "return": 1,
            "return_squared": 3,
            "value_error": 1,
            "value_error_squared": 3,
        },
        rel=1e-5,
    )


@pytest.mark.parametrize("garbage", [1e4, -1e4, math.inf, math.nan])
def test_garbage_in_the_padding_changes_no_value_and_no_gradient(garbage):
    clean, dirty = loss_and_gradient(), loss_and_gradient(garbage)
    np.testing.assert_array_equal(dirty[0], clean[0])
    np.testing.assert_array_equal(dirty[1], clean[1])
    assert dirty[2] == clean[2]
