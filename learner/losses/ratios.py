"""The importance ratio of each token, safe to take `exp` of, and what it says of the sampler."""

import mlx.core as mx

Metrics = dict[str, mx.array]
"""Sums over the tokens of a microbatch, by name."""

MAX_LOG_RATIO = 20.0
"""exp(20) = 5e8: beyond it, one token's ratio would be all of a sum in float32, or overflow to an
infinite loss and cost the whole step. A token that far off is a fault, not evidence: it gets no
gradient through its ratio and stands out in mismatch_kl."""


def masked_log_ratio(
    logprobs_BT: mx.array, old_logprobs_BT: mx.array, mask_BT: mx.array
) -> mx.array:
    """Log of the ratio of two policies, safe to take `exp` of.

        log rho = clamp(logprobs - old_logprobs, -20, 20) in the mask, 0 outside

    Args:
        logprobs_BT: nats, under the policy being trained; gradients flow.
        old_logprobs_BT: nats, under the other policy.
        mask_BT: True where a token is trained on.

    Returns:
        [B, T] nats. The mask is applied before any `exp`, since the gradient of
        `where(mask, exp(x), 0)` is 0 * inf = NaN where padding overflows. A NaN in the mask stays.
    """
    log_ratio_BT = mx.where(mask_BT, logprobs_BT - old_logprobs_BT, 0.0)
    return mx.clip(log_ratio_BT, -MAX_LOG_RATIO, MAX_LOG_RATIO)


def mismatch_metrics(
    logprobs_BT: mx.array, behaviour_logprobs_BT: mx.array, mask_BT: mx.array
) -> Metrics:
    """How far the policy being trained is from the one that sampled, whatever the loss divides by.

        rho = exp(logprobs - behaviour_logprobs)

    Args:
        logprobs_BT: nats, under the policy being trained.
        behaviour_logprobs_BT: nats, under the policy that sampled the token.
        mask_BT: True where a token is trained on.

    Returns:
        Sums over the tokens, without gradient: importance_ratio (rho), importance_ratio_squared
        (rho^2; the effective sample size is mean(rho)^2 / mean(rho^2) of the tokens) and
        mismatch_kl (rho - log rho - 1, nats: the k3 estimate of KL from the policy that sampled to
        the one being trained).
    """
    log_ratio_BT = mx.stop_gradient(masked_log_ratio(logprobs_BT, behaviour_logprobs_BT, mask_BT))
    ratio_BT = mx.where(mask_BT, mx.exp(log_ratio_BT), 0.0)
    return {
        "importance_ratio": ratio_BT.sum(),
        "importance_ratio_squared": mx.square(ratio_BT).sum(),
        "mismatch_kl": (mx.expm1(log_ratio_BT) - log_ratio_BT).sum(),
    }
