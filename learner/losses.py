"""Losses as mathematics: arrays in, `(scalar, metrics)` out; no model, config or I/O.

Everything adds up over microbatches. A loss is the sum of its tokens' terms, each with a weight
from `token_weights` that already holds the denominator of the whole step; a metric is a plain sum
over tokens, and `sum / num_tokens` of the step is the mean that its name says.

B completions, T tokens. `mask_BT` is True where a token is trained on; what stands elsewhere in any
array reaches no value and no gradient, not even as a NaN.
"""

from typing import Literal

import mlx.core as mx

Metrics = dict[str, mx.array]
Aggregation = Literal["token_mean", "seq_mean_token_mean", "seq_mean_token_sum_norm"]

MAX_LOG_RATIO = 20.0
"""exp(20) = 5e8: beyond it, one token's ratio would be all of a sum in float32, or overflow to an
infinite loss and cost the whole step. A token that far off is a fault, not evidence: it gets no
gradient and stands out in mismatch_kl."""


def masked_log_ratio(
    logprobs_BT: mx.array, behaviour_logprobs_BT: mx.array, mask_BT: mx.array
) -> mx.array:
    """Log of the importance ratio, safe to take `exp` of.

        log rho = clamp(logprobs - behaviour_logprobs, -20, 20) in the mask, 0 outside

    Args:
        logprobs_BT: nats, under the policy being trained; gradients flow.
        behaviour_logprobs_BT: nats, under the policy that sampled the token.
        mask_BT: True where a token is trained on.

    Returns:
        [B, T] nats. The mask is applied before any `exp`, since the gradient of
        `where(mask, exp(x), 0)` is 0 * inf = NaN where padding overflows. A NaN in the mask stays.
    """
    log_ratio_BT = mx.where(mask_BT, logprobs_BT - behaviour_logprobs_BT, 0.0)
    return mx.clip(log_ratio_BT, -MAX_LOG_RATIO, MAX_LOG_RATIO)


def token_weights(
    mask_BT: mx.array,
    aggregation: Aggregation,
    *,
    num_tokens: int,
    num_sequences: int,
    constant_length: int,
) -> mx.array:
    """Weight of each token in the step's loss.

        token_mean:               1 / num_tokens
        seq_mean_token_mean:      1 / (num_sequences * tokens of its completion)
        seq_mean_token_sum_norm:  1 / (num_sequences * constant_length)

    Args:
        mask_BT: True where a token is trained on; a row is a whole completion.
        aggregation: which of the three.
        num_tokens: tokens in the mask over all microbatches of the step.
        num_sequences: completions with a token in the mask over all microbatches of the step.
        constant_length: tokens; the same number for all steps of a run, such as the longest
            completion that is sampled.

    Returns:
        [B, T]; 0 outside the mask.

    Source:
        token_mean: DAPO, arXiv 2503.14476, eq. 8. seq_mean_token_mean: GRPO, arXiv 2402.03300,
        eq. 3. seq_mean_token_sum_norm: Dr. GRPO, arXiv 2503.20783, section 3.2.
    """
    weights_BT = mask_BT.astype(mx.float32)
    if aggregation == "token_mean":
        return weights_BT / num_tokens
    if aggregation == "seq_mean_token_mean":
        tokens_B1 = mx.maximum(weights_BT.sum(axis=1, keepdims=True), 1.0)  # empty rows: 0 / 1
        return weights_BT / (num_sequences * tokens_B1)
    return weights_BT / (num_sequences * constant_length)


def clipped_surrogate(
    logprobs_BT: mx.array,
    behaviour_logprobs_BT: mx.array,
    advantages: mx.array,
    mask_BT: mx.array,
    *,
    clip_low: float,
    clip_high: float,
    weights_BT: mx.array,
) -> tuple[mx.array, Metrics]:
    """Loss of PPO's clipped objective, by token.

        rho = exp(logprobs - behaviour_logprobs)
        L   = -sum_BT weights * min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A)

    Args:
        logprobs_BT: nats, under the policy being trained; gradients flow through these alone.
        behaviour_logprobs_BT: nats, under the policy that sampled the token.
        advantages: [B] of the completion, or [B, T] of the token.
        mask_BT: True where a token is trained on.
        clip_low: offset of the lower bound from 1.
        clip_high: offset of the upper bound from 1.
        weights_BT: from `token_weights`; they sum up to 1 over the step for a mean.

    Returns:
        This microbatch's part of the step's loss, and sums over its tokens: clip_fraction (1 where
        clipping took the gradient away), importance_ratio (rho), mismatch_kl (rho - log rho - 1,
        nats: the k3 estimate of KL from the policy that sampled to the one being trained).

    Source:
        PPO, arXiv 1707.06347, eq. 7; two bounds: DAPO, arXiv 2503.14476, eq. 8. The denominator of
        rho is the policy that sampled, even where a token is several versions old.
    """
    log_ratio_BT = masked_log_ratio(logprobs_BT, behaviour_logprobs_BT, mask_BT)
    ratio_BT = mx.exp(log_ratio_BT)
    advantages_BT = mx.where(mask_BT, _by_token(advantages), 0.0)
    free_BT = ratio_BT * advantages_BT
    clipped_BT = mx.clip(ratio_BT, 1.0 - clip_low, 1.0 + clip_high) * advantages_BT
    weights_BT = mx.where(mask_BT, weights_BT, 0.0)
    loss = -(weights_BT * mx.minimum(free_BT, clipped_BT)).sum()
    return loss, {
        "clip_fraction": (clipped_BT < free_BT).astype(mx.float32).sum(),
        "importance_ratio": mx.where(mask_BT, ratio_BT, 0.0).sum(),
        "mismatch_kl": (mx.expm1(log_ratio_BT) - log_ratio_BT).sum(),
    }


def _by_token(advantages: mx.array) -> mx.array:
    return advantages[:, None] if advantages.ndim == 1 else advantages
