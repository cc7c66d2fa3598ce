"""What a critic is taught."""

import mlx.core as mx

from learner.losses.ratios import Metrics


def value_loss(
    values_BT: mx.array,
    old_values_BT: mx.array,
    returns_BT: mx.array,
    mask_BT: mx.array,
    *,
    value_clip: float,
) -> tuple[mx.array, Metrics]:
    """Squared error of a critic that may not move far from its last estimates.

        L = 0.5 max((V - R)^2, (clip(V, V_old - value_clip, V_old + value_clip) - R)^2)

    Args:
        values_BT: the critic's current estimates, in units of reward; gradients flow.
        old_values_BT: its estimates before the batch's first optimizer step.
        returns_BT: what it should have said.
        mask_BT: True where a token is trained on.
        value_clip: how far an estimate may move towards the return in one batch.

    Returns:
        Loss by token, 0 outside the mask, and sums over the tokens: value_loss, value_clip_fraction
        (1 where clipping took the gradient away), and return, return_squared, value_error,
        value_error_squared (R, R^2, R - V_old, (R - V_old)^2), of whose means the critic's
        explained variance is 1 - (mean(e^2) - mean(e)^2) / (mean(R^2) - mean(R)^2).

    Source:
        The value clipping of OpenAI's PPO2, with PPO's 0.5 for the squared error; Implementation
        Matters in Deep Policy Gradients, arXiv 2005.12729, section 2.
    """
    values_BT = mx.where(mask_BT, values_BT, 0.0)
    old_values_BT = mx.stop_gradient(mx.where(mask_BT, old_values_BT, 0.0))
    returns_BT = mx.stop_gradient(mx.where(mask_BT, returns_BT, 0.0))
    bounded_BT = mx.clip(values_BT, old_values_BT - value_clip, old_values_BT + value_clip)
    free_BT = 0.5 * mx.square(values_BT - returns_BT)
    bound_BT = mx.stop_gradient(0.5 * mx.square(bounded_BT - returns_BT))
    clipped_BT = bound_BT > free_BT
    loss_BT = mx.where(clipped_BT, bound_BT, free_BT)
    error_BT = returns_BT - old_values_BT
    return loss_BT, {
        "value_loss": mx.stop_gradient(loss_BT.sum()),
        "value_clip_fraction": clipped_BT.astype(mx.float32).sum(),
        "return": returns_BT.sum(),
        "return_squared": mx.square(returns_BT).sum(),
        "value_error": error_BT.sum(),
        "value_error_squared": mx.square(error_BT).sum(),
    }
