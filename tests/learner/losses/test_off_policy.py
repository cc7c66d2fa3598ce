import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import math

import mlx.core as mx
import numpy as np
import pytest
from pydantic import ValidationError

from learner.losses.off_policy import OffPolicy, correction_weights, interpolated_proximal

MASK_BT = mx.array([[True, True], [True, False]])
RATIOS_BT = [[4.0, 0.25], [1.5, 1.0]]
"""Of proximal to behaviour; geometric means 1 and 1.5, the last is padding."""


def weights(garbage=0.0, **settings):
    proximal_BT = mx.where(MASK_BT, mx.log(mx.array(RATIOS_BT)) - 2.0, garbage)
    behaviour_BT = mx.where(MASK_BT, mx.full((2, 2), -2.0), -garbage)
    weight_BT, metrics = correction_weights(
        proximal_BT, behaviour_BT, MASK_BT, settings=OffPolicy.model_validate(settings)
    )
    return np.array(weight_BT), {name: value.item() for name, value in metrics.items()}


@pytest.mark.parametrize(
    ("settings", "expected", "cut"),
    [
        ({"correction": "tis"}, [[2.0, 0.25], [1.5, 0.0]], 1),
        ({"correction": "tis", "tis_clip": 1.25}, [[1.25, 0.25], [1.25, 0.0]], 2),
        # 0.25 is below 0.5; 4 is not above 5
        ({"correction": "token_mask"}, [[4.0, 0.0], [1.5, 0.0]], 1),
        ({"correction": "token_mask", "token_mask_high": 3.0}, [[0.0, 0.0], [1.5, 0.0]], 2),
        # sqrt(4 * 0.25) = 1 is within 0.99 and 1.01, 1.5 is not
        ({"correction": "geo_mask"}, [[1.0, 1.0], [0.0, 0.0]], 1),
        ({"correction": "geo_mask", "geo_mask_high": 1.6}, [[1.0, 1.0], [1.0, 0.0]], 0),
        ({"correction": "decoupled"}, [[4.0, 0.25], [1.5, 0.0]], 0),
        ({"correction": "decoupled", "decoupled_cap": 3.0}, [[3.0, 0.25], [1.5, 0.0]], 1),
    ],
)
def test_the_weights_by_hand(settings, expected, cut):
    weight_BT, metrics = weights(**settings)
    np.testing.assert_allclose(weight_BT, expected, rtol=1e-5)
    total = float(np.sum(expected))
    assert metrics == pytest.approx({"off_policy_weight": total, "off_policy_cut": cut}, rel=1e-5)


def test_without_a_correction_every_token_counts_once():
    weight_BT, metrics = weights(correction="none")
    assert weight_BT.tolist() == [[1.0, 1.0], [1.0, 0.0]]
    assert metrics == {}


@pytest.mark.parametrize("garbage", [1e4, -1e4, math.inf, math.nan])
@pytest.mark.parametrize("correction", ["tis", "token_mask", "geo_mask", "decoupled"])
def test_garbage_in_the_padding_reaches_no_weight(correction, garbage):
    clean, dirty = weights(correction=correction), weights(garbage, correction=correction)
    np.testing.assert_array_equal(dirty[0], clean[0])
    assert dirty[1] == clean[1]


def test_no_gradient_flows_through_a_weight():
    def total(proximal_BT):
        return correction_weights(
            proximal_BT,
            mx.zeros((2, 2)),
            MASK_BT,
            settings=OffPolicy(correction="decoupled"),
        )[0].sum()

    assert mx.grad(total)(mx.log(mx.array(RATIOS_BT))).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_the_proximal_policy_is_interpolated_between_versions():
    # log pi = -1, log mu = -2. Fresh: mu itself. One version old: half of the way, 1 / 2.
    # Three versions old: 3 / 4 of it.
    proximal_BT = interpolated_proximal(
        mx.array([[-1.0, -1.0, -1.0]]), mx.array([[-2.0, -2.0, -2.0]]), mx.array([[0, 1, 3]])
    )
    assert proximal_BT.tolist() == [[-2.0, -1.5, -1.25]]


def test_no_gradient_flows_through_the_interpolation():
    def total(logprobs_BT):
        return interpolated_proximal(logprobs_BT, mx.array([[-2.0]]), mx.array([[3]])).sum()

    assert mx.grad(total)(mx.array([[-1.0]])).item() == 0.0


@pytest.mark.parametrize(
    "settings",
    [
        {"correction": "icepop"},
        {"tis_clip": 0.0},
        {"decoupled_cap": 0.0},
        {"token_mask_low": 6.0},
        {"geo_mask_low": 1.2, "geo_mask_high": 1.1},
        {"clip": 2.0},
    ],
)
def test_settings_are_checked(settings):
    with pytest.raises(ValidationError):
        OffPolicy.model_validate(settings)
