"""Rewards -> advantages, on the host: float64 inside, float32 out.

Knows nothing of tokens, models or configs.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-9
"""Rewards whose spread is below this part of the largest are equal: sums of the same weighted
rewards differ in their last bits, and Adam would scale that noise up to full steps."""


def equal_rewards(rewards_G: Sequence[float | None]) -> bool:
    """Whether a group's rewards say nothing about which of its samples is better.

        max(r) - min(r) <= ROUNDING * max(|r|)

    Args:
        rewards_G: one group's rewards; None masks the sample, which then does not count.

    Returns:
        Also True if fewer than two samples are valid: the group's advantages are all 0.
    """
    rewards = [reward for reward in rewards_G if reward is not None]
    if len(rewards) < 2:
        return True
    return max(rewards) - min(rewards) <= ROUNDING * max(abs(reward) for reward in rewards)


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
    advantages_G = np.zeros(len(rewards_G), dtype=np.float32)
    if equal_rewards(rewards_G):
        return advantages_G
    valid_G, rewards = _valid(rewards_G)
    advantages = rewards - rewards.mean()
    if norm_by_std:
        advantages /= rewards.std() + eps
    advantages_G[valid_G] = advantages
    return advantages_G


def leave_one_out(rewards_G: Sequence[float | None]) -> NDArray[np.float32]:
    """Advantage of each sample over the others of its group.

        A_i = r_i - mean of the other r  =  n / (n - 1) * (r_i - mean(r)),  n valid samples

    Args:
        rewards_G: one group's rewards; None masks the sample, which then is no one's baseline.

    Returns:
        [G]; 0 for masked samples, and for the whole group if fewer than two samples are valid or
        all valid rewards are equal.

    Source:
        RLOO, arXiv 2402.14740: without its own reward a sample's baseline is unbiased.
        Masked samples and exact zeros for equal rewards are ours.
    """
    advantages_G = np.zeros(len(rewards_G), dtype=np.float32)
    if equal_rewards(rewards_G):
        return advantages_G
    valid_G, rewards = _valid(rewards_G)
    advantages_G[valid_G] = (rewards - rewards.mean()) * len(rewards) / (len(rewards) - 1)
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


def _valid(rewards_G: Sequence[float | None]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which samples are not masked, and their rewards."""
    valid_G = np.array([reward is not None for reward in rewards_G], dtype=bool)
    rewards = np.array([reward for reward in rewards_G if reward is not None], dtype=np.float64)
    return valid_G, rewards
