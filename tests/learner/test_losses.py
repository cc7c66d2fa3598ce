import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import math

import mlx.core as mx
import numpy as np
import pytest

from learner.losses import MAX_LOG_RATIO, clipped_surrogate, masked_log_ratio, token_weights

LOG2 = math.log(2.0)


def token_mean(mask_BT):
    num_tokens = int(np.array(mask_BT).sum())
    return token_weights(
        mask_BT, "token_mean", num_tokens=num_tokens, num_sequences=1, constant_length=1
    )


def by_hand(**changed):
    """Ratios 2, 0.5 (A = +1) and 1, padding (A = -1)."""
    mask_BT = mx.array([[True, True], [True, False]])
    return {
        "logprobs_BT": mx.array([[LOG2, -LOG2], [-1.0, 0.0]]),
        "behaviour_logprobs_BT": mx.array([[0.0, 0.0], [-1.0, 0.0]]),
        "advantages": mx.array([1.0, -1.0]),
        "mask_BT": mask_BT,
        "weights_BT": token_mean(mask_BT),
        **changed,
    }


def one_row(logprobs_T, behaviour_logprobs_T, advantage):
    mask_BT = mx.ones((1, len(logprobs_T)), dtype=mx.bool_)
    return by_hand(
        logprobs_BT=mx.array([logprobs_T]),
        behaviour_logprobs_BT=mx.array([behaviour_logprobs_T]),
        advantages=mx.array([advantage]),
        mask_BT=mask_BT,
        weights_BT=token_mean(mask_BT),
    )


def loss_and_gradient(batch) -> tuple[float, dict[str, float], np.ndarray]:
    others = {name: array for name, array in batch.items() if name != "logprobs_BT"}

    def loss(logprobs_BT):
        return clipped_surrogate(logprobs_BT, **others, clip_low=0.2, clip_high=0.3)

    (value, metrics), gradient_BT = mx.value_and_grad(loss)(batch["logprobs_BT"])
    return float(value), {name: float(m) for name, m in metrics.items()}, np.array(gradient_BT)


def random_batch(seed, B=6, T=9, spread=0.4):
    rng = np.random.default_rng(seed)
    behaviour = -rng.exponential(1.0, (B, T))
    return {
        "logprobs_BT": behaviour + spread * rng.normal(size=(B, T)),
        "behaviour_logprobs_BT": behaviour,
        "advantages": rng.normal(size=B),
        "mask_BT": np.arange(T) < rng.integers(1, T + 1, (B, 1)),
    }


def to_mlx(batch):
    arrays = {
        name: mx.array(a if a.dtype == bool else a.astype(np.float32)) for name, a in batch.items()
    }
    return arrays | {"weights_BT": token_mean(arrays["mask_BT"])}


def test_clipped_surrogate_by_hand():
    # ratios 2.0, 0.5 (A = +1) and 1.0, padding (A = -1); clip to [0.8, 1.3]
    # objectives: min(2.0, 1.3) = 1.3, min(0.5, 0.8) = 0.5, -1.0  ->  L = -(1.3 + 0.5 - 1.0) / 3
    loss, metrics, _ = loss_and_gradient(by_hand())
    assert loss == pytest.approx(-0.8 / 3)
    # the first token alone is clipped; ratios 2 + 0.5 + 1
    # rho - log rho - 1: (2 - log 2 - 1) + (0.5 + log 2 - 1) + 0 = 0.5
    assert metrics == pytest.approx(
        {"clip_fraction": 1.0, "importance_ratio": 3.5, "mismatch_kl": 0.5}, rel=1e-5
    )


def test_the_gradient_by_hand():
    # d rho / d logprob = rho. Clipped: 0. Second: -(0.5 * 1) / 3. Third: -(1 * -1) / 3. Padding: 0.
    _, _, gradient_BT = loss_and_gradient(by_hand())
    np.testing.assert_allclose(gradient_BT, [[0.0, -0.5 / 3], [1.0 / 3, 0.0]], rtol=1e-6)


def test_a_negative_advantage_is_clipped_below_and_never_above():
    # A = -1, ratios 0.5 and 2: min(-0.5, -0.8) = -0.8, clipped; min(-2, -1.3) = -2, free
    # L = (0.8 + 2) / 2, gradient [0, 2 / 2]
    batch = one_row([-LOG2, LOG2], [0.0, 0.0], advantage=-1.0)
    loss, metrics, gradient_BT = loss_and_gradient(batch)
    assert loss == pytest.approx(1.4)
    assert metrics["clip_fraction"] == 1.0
    np.testing.assert_allclose(gradient_BT, [[0.0, 1.0]], rtol=1e-6)


def test_advantages_may_be_given_by_token():
    # as by hand, but the second token has A = +3: 0.5 * 3 = 1.5  ->  L = -(1.3 + 1.5 - 1) / 3
    batch = by_hand(advantages=mx.array([[1.0, 3.0], [-1.0, 0.0]]))
    loss, _, gradient_BT = loss_and_gradient(batch)
    assert loss == pytest.approx(-1.8 / 3)
    np.testing.assert_allclose(gradient_BT, [[0.0, -0.5], [1.0 / 3, 0.0]], rtol=1e-6)


@pytest.mark.parametrize("garbage", [1e4, -1e4, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize(
    "field", ["logprobs_BT", "behaviour_logprobs_BT", "advantages", "weights_BT"]
)
def test_garbage_in_the_padding_changes_no_value_and_no_gradient(field, garbage):
    batch = by_hand(advantages=mx.array([[1.0, 1.0], [-1.0, -1.0]]))
    clean = loss_and_gradient(batch)
    dirty_BT = mx.where(batch["mask_BT"], batch[field], garbage)
    dirty = loss_and_gradient(batch | {field: dirty_BT})
    assert dirty[:2] == clean[:2]
    np.testing.assert_array_equal(dirty[2], clean[2])


def test_on_policy_the_gradient_is_that_of_plain_policy_gradient():
    # rho = 1 everywhere: d L / d logprob = -A / num_tokens
    batch = random_batch(seed=1, spread=0.0)
    loss, metrics, gradient_BT = loss_and_gradient(to_mlx(batch))
    mask_BT = batch["mask_BT"]
    plain_BT = -batch["advantages"][:, None] * mask_BT / mask_BT.sum()
    np.testing.assert_allclose(gradient_BT, plain_BT, rtol=1e-6)
    assert loss == pytest.approx(plain_BT.sum(), abs=1e-6)
    assert metrics == {"clip_fraction": 0, "importance_ratio": mask_BT.sum(), "mismatch_kl": 0}


@pytest.mark.parametrize("seed", range(5))
def test_loss_gradient_and_metrics_match_a_float64_reference(seed):
    batch = random_batch(seed)
    mask = batch["mask_BT"]
    terms, gradient, clipped, ratios, kl = 0.0, np.zeros(mask.shape), 0, 0.0, 0.0
    for b, t in np.argwhere(mask):
        log_ratio = batch["logprobs_BT"][b, t] - batch["behaviour_logprobs_BT"][b, t]
        rho, advantage = np.exp(log_ratio), batch["advantages"][b]
        outside = (advantage > 0 and rho > 1.3) or (advantage < 0 and rho < 0.8)
        bound = 1.3 if advantage > 0 else 0.8
        terms -= (bound if outside else rho) * advantage
        gradient[b, t] = 0.0 if outside else -rho * advantage / mask.sum()
        clipped, ratios, kl = clipped + outside, ratios + rho, kl + rho - log_ratio - 1
    assert clipped > 0
    loss, metrics, gradient_BT = loss_and_gradient(to_mlx(batch))
    assert loss == pytest.approx(terms / mask.sum(), abs=1e-5)
    np.testing.assert_allclose(gradient_BT, gradient, atol=1e-5)
    expected = {"clip_fraction": clipped, "importance_ratio": ratios, "mismatch_kl": kl}
    assert metrics == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "aggregation", ["token_mean", "seq_mean_token_mean", "seq_mean_token_sum_norm"]
)
def test_microbatches_add_up_to_the_whole(aggregation):
    batch = to_mlx(random_batch(seed=2))
    num_tokens = int(np.array(batch["mask_BT"]).sum())

    def part(rows):
        piece = {name: array[rows] for name, array in batch.items()}
        weights_BT = token_weights(
            piece["mask_BT"],
            aggregation,
            num_tokens=num_tokens,
            num_sequences=6,
            constant_length=16,
        )
        return loss_and_gradient(piece | {"weights_BT": weights_BT})

    whole, parts = part(slice(0, 6)), [part(slice(0, 1)), part(slice(1, 4)), part(slice(4, 6))]
    assert sum(loss for loss, _, _ in parts) == pytest.approx(whole[0], abs=1e-6)
    for name, value in whole[1].items():
        assert sum(metrics[name] for _, metrics, _ in parts) == pytest.approx(value, rel=1e-5)
    np.testing.assert_allclose(np.concatenate([g for _, _, g in parts]), whole[2], atol=1e-7)


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        # 3 of the step's 10 tokens are here: 1 / 10 each
        ("token_mean", [[0.1, 0.1, 0.0], [0.1, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        # 4 completions in the step, of 2, 1 and 0 tokens here: 1 / (4 * 2), 1 / (4 * 1)
        ("seq_mean_token_mean", [[0.125, 0.125, 0.0], [0.25, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        # 1 / (4 * 5) each
        ("seq_mean_token_sum_norm", [[0.05, 0.05, 0.0], [0.05, 0.0, 0.0], [0.0, 0.0, 0.0]]),
    ],
)
def test_token_weights_by_hand(aggregation, expected):
    mask_BT = mx.array([[True, True, False], [True, False, False], [False, False, False]])
    weights_BT = token_weights(
        mask_BT, aggregation, num_tokens=10, num_sequences=4, constant_length=5
    )
    np.testing.assert_allclose(np.array(weights_BT), expected, rtol=1e-6)


def test_the_log_ratio_is_clamped_so_that_no_token_overflows():
    # log ratios 200 and -200: exp(200) is infinite in float32, exp(20) is not
    log_ratio_BT = masked_log_ratio(
        mx.array([[100.0, -100.0, 0.5]]), mx.array([[-100.0, 100.0, 0.25]]), mx.array([[True] * 3])
    )
    assert log_ratio_BT.tolist() == [[MAX_LOG_RATIO, -MAX_LOG_RATIO, 0.25]]


def test_a_token_beyond_the_clamp_gives_no_gradient_and_a_finite_loss():
    loss, metrics, gradient_BT = loss_and_gradient(one_row([0.0, -1.0], [-200.0, -1.0], -1.0))
    assert math.isfinite(loss)
    assert metrics["mismatch_kl"] > 1e8
    np.testing.assert_allclose(gradient_BT, [[0.0, 0.5]])


def test_a_nan_in_the_mask_reaches_the_loss_where_it_can_be_seen():
    batch = by_hand(logprobs_BT=mx.array([[math.nan, 0.0], [0.0, 0.0]]))
    assert math.isnan(loss_and_gradient(batch)[0])
