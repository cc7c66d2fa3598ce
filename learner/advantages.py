"""Rewards -> advantages, on the host: float64 inside, float32 out.

Knows nothing of tokens, models or configs.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-9
"""Rewards whose spread is below this part of the largest are equal: sums of the same weighted
rewards differ in their last bits, and Adam would scale that noise up to full steps."""


def group_advantages(
    rewards_G: Sequence[float | None], *, norm_by_std: bool = True, eps: float = 1e-6
) -> NDArray[np.float32]:
    """Advantage of each sample over its group.

        A = (r - mean(r)) / (std(r) + eps)        norm_by_std
        A = r - mean(r)                           otherwise

    Args:
        rewards_G: one group's rewards; None masks the sample, which then counts in neither mean
            nor std.
        norm_by_std: divide by the group's standard deviation.
        eps: added to the standard deviation, in units of reward.

    Returns:
        [G]; 0 for masked samples, and for the whole group if fewer than two samples are valid or
        all valid rewards are equal.

    Source:
        GRPO, arXiv 2402.03300, section 4.1.2; without the std Dr. GRPO, arXiv 2503.20783. The std
        is that of the population, so that rewards 0, 1 give advantages -1, 1; TRL and verl take the
        sample's, which makes advantages smaller by sqrt(1 - 1/G). Masked samples and exact zeros
        for equal rewards are ours.
    """
    valid_G = np.array([reward is not None for reward in rewards_G], dtype=bool)
    rewards = np.array([reward for reward in rewards_G if reward is not None], dtype=np.float64)
    advantages_G = np.zeros(len(rewards_G), dtype=np.float32)
    if len(rewards) < 2 or np.ptp(rewards) <= ROUNDING * np.abs(rewards).max():
        return advantages_G
    advantages = rewards - rewards.mean()
    if norm_by_std:
        advantages /= rewards.std() + eps
    advantages_G[valid_G] = advantages
    return advantages_G


def per_group(
    estimator: Callable[[Sequence[float | None]], NDArray[np.float32]],
    rewards_B: Sequence[float | None],
    groups_B: Sequence[int],
) -> NDArray[np.float32]:
    """Applies a group's estimator to every group of a batch.

    Args:
        estimator: rewards of one group, [G] -> its advantages, [G].
        rewards_B: the batch's rewards; None masks the sample.
        groups_B: the group of each sample; groups may differ in size and be mixed in order.

    Returns:
        [B], in the order of `rewards_B`.
    """
    ids_B = np.asarray(groups_B)
    advantages_B = np.zeros(len(rewards_B), dtype=np.float32)
    for group in np.unique(ids_B):
        members = np.flatnonzero(ids_B == group).tolist()
        advantages_B[members] = estimator([rewards_B[member] for member in members])
    return advantages_B
