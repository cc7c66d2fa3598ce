import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import math
from functools import partial

import mlx.core as mx
import numpy as np
import pytest

from learner.losses.surrogates import (
    cispo_surrogate,
    clipped_surrogate,
    dppo_surrogate,
    gspo_surrogate,
)

LOG2 = math.log(2.0)
CLIPPED = partial(clipped_surrogate, clip_low=0.2, clip_high=0.3)
DUAL = partial(CLIPPED, dual_clip=3.0)
GSPO = partial(gspo_surrogate, clip_low=0.2, clip_high=0.3)
CISPO = partial(cispo_surrogate, clip_low=0.2, clip_high=0.3)
DPPO = partial(dppo_surrogate, mask_low=0.2, mask_high=0.3, penalty=0.1)
ALL = {"clipped": CLIPPED, "dual": DUAL, "gspo": GSPO, "cispo": CISPO, "dppo": DPPO}


def by_hand(**changed):
    """Ratios 2, 0.5 (A = +1) and 1, padding (A = -1)."""
    return {
        "logprobs_BT": mx.array([[LOG2 - 2.0, -LOG2 - 2.0], [-1.0, 0.0]]),
        "old_logprobs_BT": mx.array([[-2.0, -2.0], [-1.0, 0.0]]),
        "advantages_BT": mx.array([[1.0, 1.0], [-1.0, -1.0]]),
        "mask_BT": mx.array([[True, True], [True, False]]),
        **changed,
    }


def one_row(probabilities_T, old_T, advantage):
    """One completion, given by probabilities."""
    return {
        "logprobs_BT": mx.log(mx.array([probabilities_T])),
        "old_logprobs_BT": mx.log(mx.array([old_T])),
        "advantages_BT": mx.array([[advantage]]),
        "mask_BT": mx.ones((1, len(old_T)), dtype=mx.bool_),
    }


def loss_and_gradient(surrogate, batch):
    """Loss by token, its sum's gradient, and how many tokens were clipped."""
    others = {name: array for name, array in batch.items() if name != "logprobs_BT"}

    def total(logprobs_BT):
        loss_BT, metrics = surrogate(logprobs_BT, **others)
        return loss_BT.sum(), loss_BT, metrics

    (_, loss_BT, metrics), gradient_BT = mx.value_and_grad(total)(batch["logprobs_BT"])
    assert set(metrics) == {"clip_fraction"}
    return np.array(loss_BT), np.array(gradient_BT), metrics["clip_fraction"].item()


def check(surrogate, batch, loss, gradient, clipped):
    loss_BT, gradient_BT, num_clipped = loss_and_gradient(surrogate, batch)
    np.testing.assert_allclose(loss_BT, loss, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(gradient_BT, gradient, rtol=1e-5, atol=1e-7)
    assert num_clipped == clipped


def test_the_clipped_surrogate_by_hand():
    # clip to [0.8, 1.3]; objectives min(2, 1.3) = 1.3, min(0.5, 0.8) = 0.5, and -1
    # d rho / d logprob = rho, and 0 for the first, which is clipped
    check(CLIPPED, by_hand(), [[-1.3, -0.5], [1.0, 0.0]], [[0.0, -0.5], [1.0, 0.0]], clipped=1)


def test_a_negative_advantage_is_clipped_below_and_never_above():
    # A = -1, ratios 0.5 and 4: min(-0.5, -0.8) = -0.8, clipped; min(-4, -1.3) = -4, free
    batch = one_row([0.1, 0.8], [0.2, 0.2], advantage=-1.0)
    check(CLIPPED, batch, [[0.8, 4.0]], [[0.0, 4.0]], clipped=1)


def test_the_dual_clip_bounds_what_a_bad_advantage_can_do():
    # as above, but max(-4, 3 * -1) = -3
    batch = one_row([0.1, 0.8], [0.2, 0.2], advantage=-1.0)
    check(DUAL, batch, [[0.8, 3.0]], [[0.0, 0.0]], clipped=2)
    # A = +1: no such bound, 4 is clipped at 1.3
    batch = one_row([0.1, 0.8], [0.2, 0.2], advantage=1.0)
    check(DUAL, batch, [[-0.5, -1.3]], [[-0.5, 0.0]], clipped=1)


def test_at_a_bound_of_no_width_the_first_step_still_has_its_whole_gradient():
    # rho = 1 = both bounds
    surrogate = partial(clipped_surrogate, clip_low=0.0, clip_high=0.0)
    check(surrogate, one_row([0.2], [0.2], 1.0), [[-1.0]], [[-1.0]], clipped=0)
    check(surrogate, one_row([0.2], [0.2], -1.0), [[1.0]], [[1.0]], clipped=0)


def test_advantages_may_be_given_by_token():
    # as by hand, but the second token has A = +3: 0.5 * 3 = 1.5
    batch = by_hand(advantages_BT=mx.array([[1.0, 3.0], [-1.0, 0.0]]))
    check(CLIPPED, batch, [[-1.3, -1.5], [1.0, 0.0]], [[0.0, -1.5], [1.0, 0.0]], clipped=1)


def test_the_gspo_surrogate_by_hand():
    # s = sqrt(2 * 0.5) = 1 and, of one token, 1
    check(GSPO, by_hand(), [[-1.0, -1.0], [1.0, 0.0]], [[-1.0, -1.0], [1.0, 0.0]], clipped=0)


@pytest.mark.parametrize(
    ("ratios", "advantage", "value", "slope", "clipped"),
    [
        # s = sqrt(1.5 * 0.96) = 1.2, free
        ([1.5, 0.96], 1.0, -1.2, -1.2, 0),
        # s = sqrt(4 * 1) = 2, clipped to 1.3 as a whole, also the token whose own ratio is 1
        ([4.0, 1.0], 1.0, -1.3, 0.0, 2),
        ([4.0, 1.0], -1.0, 2.0, 2.0, 0),
        # s = sqrt(0.25 * 1) = 0.5
        ([0.25, 1.0], -1.0, 0.8, 0.0, 2),
        ([0.25, 1.0], 1.0, -0.5, -0.5, 0),
    ],
)
def test_gspo_clips_completions(ratios, advantage, value, slope, clipped):
    batch = one_row([0.2 * ratio for ratio in ratios], [0.2, 0.2], advantage)
    check(GSPO, batch, [[value] * 2], [[slope] * 2], clipped)


def test_the_mean_gradient_of_gspo_is_that_of_the_completions_ratio():
    # d s / d log pi_t = s / 2 for each of 2 tokens: what averaging over the tokens leaves
    batch = one_row([0.3, 0.192], [0.2, 0.2], 1.0)

    def completion_ratio(logprobs_BT):
        return mx.exp((logprobs_BT - batch["old_logprobs_BT"]).mean())

    exact_BT = np.array(mx.grad(completion_ratio)(batch["logprobs_BT"]))
    _, gradient_BT, _ = loss_and_gradient(GSPO, batch)
    np.testing.assert_allclose(gradient_BT / 2, -exact_BT, rtol=1e-5)


def test_the_cispo_surrogate_by_hand():
    # weights: 2 -> 1.3, 0.5 -> 0.8, 1; loss -weight * A * logprob, gradient -weight * A
    loss = [[-1.3 * (LOG2 - 2.0), -0.8 * (-LOG2 - 2.0)], [-1.0, 0.0]]
    check(CISPO, by_hand(), loss, [[-1.3, -0.8], [1.0, 0.0]], clipped=2)


def test_cispo_without_a_lower_bound():
    surrogate = partial(cispo_surrogate, clip_low=1.0, clip_high=4.0)
    # ratios 0.5 and 8: weights 0.5 and 5; logprobs log 0.1 and log 0.8
    loss = [[0.5 * math.log(0.1), 5.0 * math.log(0.8)]]
    check(surrogate, one_row([0.1, 0.8], [0.2, 0.1], -1.0), loss, [[0.5, 5.0]], clipped=1)


@pytest.mark.parametrize(
    ("probability", "old", "advantage", "keep"),
    [
        (0.6, 0.2, 1.0, 0),  # rose by 0.4 > 0.3
        (0.4, 0.2, 1.0, 1),  # doubled, but rose by 0.2 only
        (0.1, 0.4, 1.0, 1),  # fell: a good advantage never stops there
        (0.1, 0.4, -1.0, 0),  # fell by 0.3 > 0.2
        (0.3, 0.4, -1.0, 1),  # fell by 0.1
        (0.6, 0.2, -1.0, 1),  # rose: a bad advantage never stops there
    ],
)
def test_dppo_masks_by_how_far_a_probability_moved(probability, old, advantage, keep):
    # L = -keep rho A + 0.1 (log rho)^2, gradient -keep rho A + 0.2 log rho
    ratio = probability / old
    value = -keep * ratio * advantage + 0.1 * math.log(ratio) ** 2
    slope = -keep * ratio * advantage + 0.2 * math.log(ratio)
    check(DPPO, one_row([probability], [old], advantage), [[value]], [[slope]], 1 - keep)


def test_dppo_without_advantage_has_the_penalty_alone_and_counts_nothing():
    # fell by 0.3, so masked, but there is nothing to mask: 0.1 (log 0.25)^2, 0.2 log 0.25
    log_ratio = math.log(0.25)
    batch = one_row([0.1], [0.4], 0.0)
    check(DPPO, batch, [[0.1 * log_ratio**2]], [[0.2 * log_ratio]], clipped=0)


@pytest.mark.parametrize("garbage", [1e4, -1e4, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("field", ["logprobs_BT", "old_logprobs_BT", "advantages_BT"])
@pytest.mark.parametrize("name", ALL)
def test_garbage_in_the_padding_changes_no_value_and_no_gradient(name, field, garbage):
    batch = by_hand()
    clean = loss_and_gradient(ALL[name], batch)
    dirty_BT = mx.where(batch["mask_BT"], batch[field], garbage)
    dirty = loss_and_gradient(ALL[name], batch | {field: dirty_BT})
    for got, expected in zip(dirty, clean, strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", ALL)
def test_on_policy_the_gradient_is_that_of_plain_policy_gradient(name):
    # rho = 1: d L / d logprob = -A
    batch = by_hand(old_logprobs_BT=by_hand()["logprobs_BT"])
    _, gradient_BT, clipped = loss_and_gradient(ALL[name], batch)
    np.testing.assert_allclose(gradient_BT, [[-1.0, -1.0], [1.0, 0.0]], rtol=1e-6)
    assert clipped == 0


@pytest.mark.parametrize("name", ALL)
def test_a_token_beyond_the_clamp_gives_a_finite_loss_and_gradient(name):
    batch = by_hand(
        logprobs_BT=mx.array([[-1.0, -1.0]]),
        old_logprobs_BT=mx.array([[-200.0, -1.0]]),
        advantages_BT=mx.array([[-1.0]]),
        mask_BT=mx.array([[True, True]]),
    )
    loss_BT, gradient_BT, _ = loss_and_gradient(ALL[name], batch)
    assert np.isfinite(loss_BT).all()
    assert np.isfinite(gradient_BT).all()
    if name in ("clipped", "dual", "dppo"):
        assert gradient_BT.tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("name", ALL)
def test_a_nan_in_the_mask_reaches_the_loss_where_it_can_be_seen(name):
    batch = by_hand(logprobs_BT=mx.array([[math.nan, -1.0], [-1.0, 0.0]]))
    assert np.isnan(loss_and_gradient(ALL[name], batch)[0]).any()
