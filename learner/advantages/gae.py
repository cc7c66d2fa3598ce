"""Advantages of tokens over what a critic expected of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from learner.advantages.weights import valid_token_mask


def gae_advantages(
    rewards_B: Sequence[float | None],
    values_BT: NDArray[np.float32],
    completion_tokens_B: Sequence[int],
    *,
    gamma: float,
    lam: float,
) -> NDArray[np.float32]:
    """Generalised advantage estimate of each token; the reward comes with the last one.

        delta_t = r_t + gamma V_{t+1} - V_t       r_t = reward at the last token, else 0
        A_t     = delta_t + gamma lam A_{t+1}     V and A after the last token are 0

    Args:
        rewards_B: reward of each completion; None masks the sample.
        values_BT: the critic's estimate before each token, in units of reward. What stands in the
            padding and in masked rows does not count.
        completion_tokens_B: tokens of each completion, at most T; an empty one gets no advantage.
        gamma: discount of what comes one token later.
        lam: 0 trusts the critic alone, 1 the reward alone (A_t = gamma^(n-1-t) r - V_t).

    Returns:
        [B, T]; 0 in the padding and for masked samples.

    Source:
        GAE, arXiv 1506.02438, eq. 16. A completion cut off at the token limit ends there
        like any other: V after it is 0, since its reward was given for what there is, and no one
        will sample the rest.
    """
    return _estimate(rewards_B, values_BT, completion_tokens_B, gamma, lam).astype(np.float32)


def gae_returns(
    rewards_B: Sequence[float | None],
    values_BT: NDArray[np.float32],
    completion_tokens_B: Sequence[int],
    *,
    gamma: float,
    lam: float,
) -> NDArray[np.float32]:
    """What the critic should have said of each token: its advantage plus its estimate.

        R_t = A_t + V_t

    Args:
        rewards_B: as in `gae_advantages`.
        values_BT: as in `gae_advantages`.
        completion_tokens_B: as in `gae_advantages`.
        gamma: as in `gae_advantages`.
        lam: 1 makes it the discounted reward; critics learn it best with a lam near 1.

    Returns:
        [B, T]; 0 in the padding and for masked samples.

    Source:
        The lambda-return of TD(lambda), as PPO implementations have it: advantages before any
        whitening. VAPO's decoupled GAE, arXiv 2504.05118, takes lam = 1 here and less for the
        policy.
    """
    mask_BT = valid_token_mask(rewards_B, completion_tokens_B, values_BT.shape[1])
    advantages_BT = _estimate(rewards_B, values_BT, completion_tokens_B, gamma, lam)
    return np.where(mask_BT, advantages_BT + values_BT, 0.0).astype(np.float32)


def _estimate(
    rewards_B: Sequence[float | None],
    values_BT: NDArray[np.float32],
    completion_tokens_B: Sequence[int],
    gamma: float,
    lam: float,
) -> NDArray[np.float64]:
    num_rows, num_columns = values_BT.shape
    mask_BT = valid_token_mask(rewards_B, completion_tokens_B, num_columns)
    values_BT = np.where(mask_BT, values_BT.astype(np.float64), 0.0)
    rewards_BT = np.zeros((num_rows, num_columns))
    for row, (reward, num_tokens) in enumerate(zip(rewards_B, completion_tokens_B, strict=True)):
        if reward is not None and num_tokens > 0:
            rewards_BT[row, num_tokens - 1] = reward
    advantages_BT = np.zeros((num_rows, num_columns + 1))
    next_values_B = np.zeros(num_rows)
    for t in reversed(range(num_columns)):
        deltas_B = rewards_BT[:, t] + gamma * next_values_B - values_BT[:, t]
        advantages_BT[:, t] = deltas_B + gamma * lam * advantages_BT[:, t + 1]
        next_values_B = values_BT[:, t]
    return advantages_BT[:, :num_columns]
