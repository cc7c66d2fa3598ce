"""Write your own algorithm.

An algorithm is a function that returns its parts (learner/algorithm.py): how rewards become
advantages, and how advantages and logprobs become a loss. Its keyword arguments are what a config
may set:

    algorithm: {name: "docs/tutorials/your_own_algorithm.py:best_of_group", temperature: 0.1}

Try it (20 s), from the checkout:

    .venv/bin/mlx-train --config configs/quickstart.yaml --set run.name=own_algorithm \
        --set run.max_steps=10 --set evaluation.interval=0 \
        --set 'algorithm={name: "docs/tutorials/your_own_algorithm.py:best_of_group"}'

This one imitates the better completions of each group: softmax weights over the group's rewards,
and no penalty for the others (rejection sampling, made soft). The loss is minus the weighted
logprob.

Three rules keep a loss right:

- Divide by `totals`, never by what is in the microbatch: a step's microbatches are summed.
- `mask_BT` first, arithmetic after: what stands outside the mask means nothing, and `0 * inf` is
  nan.
- Return metrics as sums over tokens; the trainer divides them.
"""

from collections.abc import Sequence
from functools import partial
from typing import Annotated

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from learner.advantages.groups import equal_rewards, per_group
from learner.algorithm import Algorithm, BatchRewards, StepTotals, TokenBatch


def best_of_group(*, temperature: Annotated[float, Field(gt=0)] = 0.25) -> Algorithm:
    """Imitate a group's better completions.

        A_i = G softmax(r / temperature)_i,   loss = - sum A log pi / num_tokens

    Args:
        temperature: of the weights, in units of reward; small ones keep only the best.
    """
    return Algorithm(advantages=partial(_advantages, temperature), loss=_loss)


def _advantages(temperature: float, batch: BatchRewards) -> NDArray[np.float32]:
    return per_group(partial(_weights, temperature), batch.rewards_B, batch.groups_B)


def _weights(temperature: float, rewards_G: Sequence[float | None]) -> NDArray[np.float32]:
    """[G]; 0 for masked samples, and for all of a group whose rewards say nothing."""
    weights_G = np.zeros(len(rewards_G), np.float32)
    if equal_rewards(rewards_G):
        return weights_G
    valid = [i for i, reward in enumerate(rewards_G) if reward is not None]
    rewards = np.array([rewards_G[i] for i in valid], np.float64)
    shares = np.exp((rewards - rewards.max()) / temperature)
    weights_G[valid] = len(valid) * shares / shares.sum()
    return weights_G


def _loss(batch: TokenBatch, totals: StepTotals) -> tuple[mx.array, dict[str, mx.array]]:
    logprobs_BT = mx.where(batch.mask_BT, batch.logprobs_BT, 0.0)
    weights_BT = mx.where(batch.mask_BT, batch.advantages, 0.0)
    imitated = (weights_BT * logprobs_BT).sum()
    return -imitated / totals.num_tokens, {"imitated_weight": weights_BT.sum()}
