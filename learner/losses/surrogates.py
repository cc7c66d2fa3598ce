"""Surrogate objectives of a policy, by token.

(logprobs_BT, old_logprobs_BT, advantages_BT, mask_BT) -> (loss_BT, metrics)

logprobs_BT:      nats, under the policy being trained; gradients flow through these alone.
old_logprobs_BT:  nats, under the policy that the ratio rho = exp(logprobs - old_logprobs) is
                  taken to: the one that sampled, or what an off-policy correction put there.
advantages_BT:    [B, T], or [B, 1] where all tokens of a completion share one.
mask_BT:          True where a token is trained on.
loss_BT:          what is to be minimised; 0 outside the mask.
metrics:          clip_fraction, the sum over the tokens whose gradient the bounds changed.
"""

from collections.abc import Callable

import mlx.core as mx

from learner.losses.ratios import Metrics, masked_log_ratio

Surrogate = Callable[[mx.array, mx.array, mx.array, mx.array], tuple[mx.array, Metrics]]
"""One of the functions below, its knobs bound."""


def clipped_surrogate(
    logprobs_BT: mx.array,
    old_logprobs_BT: mx.array,
    advantages_BT: mx.array,
    mask_BT: mx.array,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None = None,
) -> tuple[mx.array, Metrics]:
    """Loss of PPO's clipped objective.

        L = -min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A)
        L = min(L, -dual_clip A)                                       where A < 0

    Args:
        logprobs_BT: as above, like all arrays.
        old_logprobs_BT: as above.
        advantages_BT: as above.
        mask_BT: as above.
        clip_low: offset of the ratio's lower bound from 1.
        clip_high: offset of the ratio's upper bound from 1.
        dual_clip: the ratio from which on a token with a bad advantage has no gradient, above
            1 + clip_high; None: no such bound.

    Returns:
        Loss by token, and clip_fraction: tokens whose gradient clipping took away.

    Source:
        PPO, arXiv 1707.06347, eq. 7; two bounds: DAPO, arXiv 2503.14476, eq. 8; the bound on bad
        advantages: dual-clip PPO, arXiv 1912.09729, eq. 4.
    """
    ratio_BT = mx.exp(masked_log_ratio(logprobs_BT, old_logprobs_BT, mask_BT))
    advantages_BT = mx.where(mask_BT, advantages_BT, 0.0)
    return _pessimistic_loss(ratio_BT, advantages_BT, clip_low, clip_high, dual_clip)


def gspo_surrogate(
    logprobs_BT: mx.array,
    old_logprobs_BT: mx.array,
    advantages_BT: mx.array,
    mask_BT: mx.array,
    *,
    clip_low: float,
    clip_high: float,
) -> tuple[mx.array, Metrics]:
    """Loss of GSPO: one ratio a completion, clipped as a whole.

        s = exp(mean_t log rho_t)
        L = -min(s_t A, clip(s_t, 1 - clip_low, 1 + clip_high) A),   s_t = sg[s] pi_t / sg[pi_t]

    s_t has the value of s. Averaged over the completion's tokens, its gradient is that of s.

    Args:
        logprobs_BT: as above, like all arrays; a row is a whole completion.
        old_logprobs_BT: as above.
        advantages_BT: as above.
        mask_BT: as above.
        clip_low: offset of the lower bound from 1; small, since s is a mean over many tokens.
        clip_high: offset of the upper bound from 1.

    Returns:
        Loss by token, and clip_fraction: tokens whose gradient clipping took away.

    Source:
        arXiv 2507.18071, eq. 7 and, for the gradient through s_t, eq. 14 (GSPO-token).
    """
    log_ratio_BT = masked_log_ratio(logprobs_BT, old_logprobs_BT, mask_BT)
    tokens_B1 = mx.maximum(mask_BT.astype(mx.float32).sum(axis=1, keepdims=True), 1.0)
    mean_B1 = mx.stop_gradient(log_ratio_BT.sum(axis=1, keepdims=True) / tokens_B1)
    one_BT = mx.where(mask_BT, logprobs_BT - mx.stop_gradient(logprobs_BT), 0.0)  # log pi / sg[pi]
    advantages_BT = mx.where(mask_BT, advantages_BT, 0.0)
    return _pessimistic_loss(mx.exp(mean_B1 + one_BT), advantages_BT, clip_low, clip_high, None)


def cispo_surrogate(
    logprobs_BT: mx.array,
    old_logprobs_BT: mx.array,
    advantages_BT: mx.array,
    mask_BT: mx.array,
    *,
    clip_low: float,
    clip_high: float,
) -> tuple[mx.array, Metrics]:
    """Loss of CISPO: the clipped ratio is a weight, and every token keeps a gradient.

        L = -sg[clip(rho, 1 - clip_low, 1 + clip_high)] A log pi

    Args:
        logprobs_BT: as above, like all arrays.
        old_logprobs_BT: as above.
        advantages_BT: as above.
        mask_BT: as above.
        clip_low: offset of the ratio's lower bound from 1; 1 for no bound.
        clip_high: offset of the ratio's upper bound from 1. TRL's `epsilon_high` for CISPO is the
            bound itself: its 5 is 4 here.

    Returns:
        Loss by token, and clip_fraction: tokens whose weight a bound changed.

    Source:
        MiniMax-M1, arXiv 2506.13585, eq. 4 and 5.
    """
    ratio_BT = mx.exp(mx.stop_gradient(masked_log_ratio(logprobs_BT, old_logprobs_BT, mask_BT)))
    weight_BT = mx.clip(ratio_BT, 1.0 - clip_low, 1.0 + clip_high)
    advantages_BT = mx.where(mask_BT, advantages_BT, 0.0)
    loss_BT = -weight_BT * advantages_BT * mx.where(mask_BT, logprobs_BT, 0.0)
    clipped_BT = mask_BT & (weight_BT != ratio_BT)
    return loss_BT, {"clip_fraction": clipped_BT.astype(mx.float32).sum()}


def dppo_surrogate(
    logprobs_BT: mx.array,
    old_logprobs_BT: mx.array,
    advantages_BT: mx.array,
    mask_BT: mx.array,
    *,
    mask_low: float,
    mask_high: float,
    penalty: float,
) -> tuple[mx.array, Metrics]:
    """Loss of DPPO with the mask on total variation: bounds on probabilities, not on their ratio.

        keep = 0 where (A > 0 and pi - old > mask_high) or (A <= 0 and pi - old < -mask_low), else 1
        L    = -keep rho A + penalty (log pi - log old)^2

    A rare token may multiply its probability many times over before it is masked, where a ratio's
    bound would stop it at once; a frequent one is stopped sooner.

    Args:
        logprobs_BT: as above, like all arrays.
        old_logprobs_BT: as above.
        advantages_BT: as above.
        mask_BT: as above.
        mask_low: how far a probability may fall.
        mask_high: how far a probability may rise.
        penalty: weight of the squared log ratio, on kept and masked tokens alike.

    Returns:
        Loss by token, and clip_fraction: tokens whose policy gradient the mask took away.

    Source:
        The default loss of prime-rl, after DPPO (binary TV), arXiv 2602.04879.
    """
    log_ratio_BT = masked_log_ratio(logprobs_BT, old_logprobs_BT, mask_BT)
    advantages_BT = mx.where(mask_BT, advantages_BT, 0.0)
    old_BT = mx.exp(mx.where(mask_BT, old_logprobs_BT, 0.0))
    moved_BT = mx.stop_gradient(mx.exp(mx.where(mask_BT, logprobs_BT, 0.0)) - old_BT)
    masked_BT = mx.where(advantages_BT > 0, moved_BT > mask_high, moved_BT < -mask_low)
    policy_BT = mx.where(masked_BT, 0.0, -mx.exp(log_ratio_BT) * advantages_BT)
    clipped_BT = masked_BT & (advantages_BT != 0)
    return policy_BT + penalty * mx.square(log_ratio_BT), {
        "clip_fraction": clipped_BT.astype(mx.float32).sum()
    }


def _pessimistic_loss(
    ratio_BT: mx.array,
    advantages_BT: mx.array,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None,
) -> tuple[mx.array, Metrics]:
    """PPO's choice between the free objective and its bounds, with no gradient at a bound."""
    free_BT = ratio_BT * advantages_BT
    bound_BT = mx.stop_gradient(mx.clip(ratio_BT, 1.0 - clip_low, 1.0 + clip_high) * advantages_BT)
    clipped_BT = bound_BT < free_BT
    objective_BT = mx.where(clipped_BT, bound_BT, free_BT)
    if dual_clip is not None:
        floor_BT = dual_clip * advantages_BT
        cut_BT = (advantages_BT < 0) & (objective_BT < floor_BT)
        objective_BT = mx.where(cut_BT, floor_BT, objective_BT)
        clipped_BT = clipped_BT | cut_BT
    return -objective_BT, {"clip_fraction": clipped_BT.astype(mx.float32).sum()}
