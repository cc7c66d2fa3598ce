import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import math

import mlx.core as mx
import numpy as np
import pytest
from pydantic import ValidationError

from learner.losses.kl import KlPenalty, kl_penalty

LOG2 = math.log(2.0)
MASK_BT = mx.array([[True, True, False]])


def penalty_and_gradient(estimator, garbage=0.0):
    """log(pi / ref) = log 2 and -log 2, and padding."""

    def total(logprobs_BT):
        kl_BT, metrics = kl_penalty(
            logprobs_BT,
            mx.array([[-1.0, -1.0 + LOG2, -garbage]]),
            MASK_BT,
            estimator=estimator,
        )
        return kl_BT.sum(), kl_BT, metrics

    logprobs_BT = mx.array([[-1.0 + LOG2, -1.0, garbage]])
    (_, kl_BT, metrics), gradient_BT = mx.value_and_grad(total)(logprobs_BT)
    return np.array(kl_BT)[0], np.array(gradient_BT)[0], metrics["kl_ref"].item()


@pytest.mark.parametrize(
    ("estimator", "values", "gradient"),
    [
        # d itself, with the gradient of d^2 / 2, which is d
        ("k1", [LOG2, -LOG2, 0.0], [LOG2, -LOG2, 0.0]),
        ("k2", [LOG2**2 / 2, LOG2**2 / 2, 0.0], [LOG2, -LOG2, 0.0]),
        # exp(-d) + d - 1: 0.5 + log 2 - 1 and 2 - log 2 - 1; gradient 1 - exp(-d): 0.5 and -1
        ("k3", [LOG2 - 0.5, 1.0 - LOG2, 0.0], [0.5, -1.0, 0.0]),
    ],
)
def test_each_estimator_by_hand(estimator, values, gradient):
    kl_T, gradient_T, kl_ref = penalty_and_gradient(estimator)
    np.testing.assert_allclose(kl_T, values, rtol=1e-5)
    np.testing.assert_allclose(gradient_T, gradient, rtol=1e-5)
    assert kl_ref == pytest.approx(sum(values), abs=1e-6)


@pytest.mark.parametrize("garbage", [1e4, -1e4, math.inf, math.nan])
@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_garbage_in_the_padding_changes_no_value_and_no_gradient(estimator, garbage):
    clean, dirty = penalty_and_gradient(estimator), penalty_and_gradient(estimator, garbage)
    np.testing.assert_array_equal(dirty[0], clean[0])
    np.testing.assert_array_equal(dirty[1], clean[1])
    assert dirty[2] == clean[2]


@pytest.mark.parametrize("estimator", ["k1", "k2"])
def test_on_policy_the_mean_gradient_is_that_of_the_kl(estimator):
    # over all 3 tokens, each weighted by its own probability: exact expectations
    logits_V, ref_V = mx.array([0.3, -0.7, 1.1]), mx.array([0.0, 0.5, 0.2])
    ref_V = ref_V - mx.logsumexp(ref_V)
    mask_BT = mx.array([[True] * 3])

    def exact(logits_V):
        logprobs_V = logits_V - mx.logsumexp(logits_V)
        return (mx.exp(logprobs_V) * (logprobs_V - ref_V)).sum()

    def estimated(logits_V):
        logprobs_V = logits_V - mx.logsumexp(logits_V)
        kl_BT, _ = kl_penalty(logprobs_V[None], ref_V[None], mask_BT, estimator=estimator)
        return (mx.stop_gradient(mx.exp(logprobs_V)) * kl_BT[0]).sum()

    np.testing.assert_allclose(
        np.array(mx.grad(estimated)(logits_V)), np.array(mx.grad(exact)(logits_V)), atol=1e-6
    )


def test_settings_are_checked():
    with pytest.raises(ValidationError):
        KlPenalty(coefficient=-0.1)
    with pytest.raises(ValidationError):
        KlPenalty.model_validate({"estimator": "k4"})
    with pytest.raises(ValidationError):
        KlPenalty.model_validate({"beta": 0.1})
