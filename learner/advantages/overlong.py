"""A penalty for completions that come near the token limit."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def soft_overlong_penalty(
    completion_tokens_B: Sequence[int],
    *,
    max_completion_tokens: int,
    overlong_buffer: int,
    overlong_penalty: float,
) -> NDArray[np.float64]:
    """What to add to the reward of each completion for its length.

        start = max_completion_tokens - overlong_buffer
        p     = overlong_penalty * clip((start - tokens) / overlong_buffer, -1, 0)

    Args:
        completion_tokens_B: tokens of each completion.
        max_completion_tokens: the length at which the penalty is full.
        overlong_buffer: tokens before that over which it grows; with 0 there is no penalty up to
            the limit.
        overlong_penalty: the full penalty, in units of reward.

    Returns:
        [B], from -overlong_penalty to 0, to be added to rewards before advantages are taken.

    Source:
        Soft overlong punishment of DAPO, arXiv 2503.14476, eq. 13, times a weight of ours.
    """
    start = max_completion_tokens - overlong_buffer
    excess_B = start - np.asarray(completion_tokens_B, dtype=np.float64)
    return overlong_penalty * np.clip(excess_B / max(overlong_buffer, 1), -1.0, 0.0)
