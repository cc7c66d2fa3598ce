"""A control for any training: GRPO on rewards that were dealt out again at random.

    mlx-train --config CONFIG --set 'algorithm={name: "bench/shuffled_rewards.py:grpo_shuffled"}'

Everything else is as in the run that it is compared with: prompts, lengths, number of steps, size
of the advantages. What held-out figures gain here was not taught by the rewards.
"""

import random
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from learner.algorithm import Algorithm, BatchRewards
from learner.algorithms.grpo import grpo


def grpo_shuffled(*, seed: int = 0) -> Algorithm:
    """GRPO whose rewards change places within each group.

    Args:
        seed: of the places; they also depend on the batch.
    """
    plain = grpo()

    def advantages(batch: BatchRewards) -> NDArray[np.float32]:
        return plain.advantages(replace(batch, rewards_B=shuffled(batch, seed)))

    return replace(plain, advantages=advantages)


def shuffled(batch: BatchRewards, seed: int) -> tuple[float | None, ...]:
    """Rewards of a batch, each group's dealt out anew; masked samples keep their None."""
    rewards = list(batch.rewards_B)
    places: dict[int, list[int]] = {}
    for index, group in enumerate(batch.groups_B):
        if rewards[index] is not None:
            places.setdefault(group, []).append(index)
    for group, indices in places.items():
        dealt = [rewards[index] for index in indices]
        random.Random(f"{seed}/{group}").shuffle(dealt)
        for index, reward in zip(indices, dealt, strict=True):
            rewards[index] = reward
    return tuple(rewards)
