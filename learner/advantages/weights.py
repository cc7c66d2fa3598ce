"""Which tokens count where advantages are averaged over a whole batch."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def valid_tokens(
    rewards_B: Sequence[float | None], completion_tokens_B: Sequence[int]
) -> NDArray[np.int64]:
    """Tokens of each completion that is not masked.

    Args:
        rewards_B: None masks the sample.
        completion_tokens_B: tokens of each completion.

    Returns:
        [B]; 0 for masked samples.
    """
    valid_B = [reward is not None for reward in rewards_B]
    return np.where(valid_B, completion_tokens_B, 0).astype(np.int64)


def valid_token_mask(
    rewards_B: Sequence[float | None], completion_tokens_B: Sequence[int], num_columns: int
) -> NDArray[np.bool_]:
    """Tokens that belong to a completion that is not masked.

    Args:
        rewards_B: None masks the sample.
        completion_tokens_B: tokens of each completion.
        num_columns: T, at least the longest completion.

    Returns:
        [B, T], True for the first `completion_tokens_B` columns of each valid row.
    """
    return np.arange(num_columns) < valid_tokens(rewards_B, completion_tokens_B)[:, None]
