"""Tokens and completions -> one number: how the step's loss weighs them."""

from typing import Literal

import mlx.core as mx

Aggregation = Literal["token_mean", "seq_mean_token_mean", "seq_mean_token_sum_norm"]


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
