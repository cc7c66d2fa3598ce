"""Advantages of mean 0 and standard deviation 1 over the tokens of a batch."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from learner.advantages.groups import ROUNDING


def whiten(
    advantages: ArrayLike, weights: ArrayLike, *, keep_mean: bool = False, eps: float = 1e-8
) -> NDArray[np.float32]:
    """Shifts and scales advantages to mean 0 and standard deviation 1 over a batch's tokens.

        mean = sum(w A) / sum(w)
        std  = sqrt(sum(w (A - mean)^2) / sum(w))
        A'   = (A - mean) / (std + eps)  [+ mean with keep_mean]

    Args:
        advantages: [B] of the completion, or [B, T] of the token.
        weights: of the same shape. For [B] the tokens of each completion, 0 for masked samples
            (`valid_tokens`); for [B, T] a mask of the tokens that count (`valid_token_mask`).
        keep_mean: change the spread alone.
        eps: added to the standard deviation, in units of advantage.

    Returns:
        In the shape of `advantages`; 0 where the weight is 0, whatever stands there. Where all
        that count are equal, they become exact zeros, or the mean with `keep_mean`.

    Source:
        REINFORCE++, arXiv 2501.03262: normalised over the global batch, not the group. PPO as
        InstructGPT and TRL (`masked_whiten`) have it; they take the sample's variance, N - 1
        instead of N tokens, and sqrt(var + 1e-8) for std + eps. Each token counts once, so that
        [B] gives what the same advantages spread over [B, T] would. Exact zeros are ours.
    """
    weights = np.asarray(weights, dtype=np.float64)
    counts = weights > 0
    values = np.where(counts, np.asarray(advantages, dtype=np.float64), 0.0)
    if not counts.any():
        return values.astype(np.float32)
    total = weights.sum()
    mean = (weights * values).sum() / total
    kept = mean if keep_mean else 0.0
    if np.ptp(values[counts]) <= ROUNDING * np.abs(values[counts]).max():
        return np.where(counts, kept, 0.0).astype(np.float32)
    std = np.sqrt((weights * (values - mean) ** 2).sum() / total)
    return np.where(counts, (values - mean) / (std + eps) + kept, 0.0).astype(np.float32)
