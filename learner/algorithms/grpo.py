"""GRPO: the group is its own baseline, the clipped objective is its loss."""

from functools import partial
from typing import Annotated

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from learner.advantages import group_advantages, per_group
from learner.algorithm import Algorithm, BatchRewards, StepTotals, TokenBatch, algorithm
from learner.losses import Aggregation, Metrics, clipped_surrogate, token_weights


@algorithm("grpo")
def grpo(
    *,
    clip_low: Annotated[float, Field(ge=0.0, le=1.0)] = 0.2,
    clip_high: Annotated[float, Field(ge=0.0)] = 0.2,
    norm_by_std: bool = True,
    loss_aggregation: Aggregation = "token_mean",
) -> Algorithm:
    """Group relative policy optimisation.

    Args:
        clip_low: offset of the ratio's lower bound from 1.
        clip_high: offset of the ratio's upper bound from 1.
        norm_by_std: divide advantages by the group's standard deviation.
        loss_aggregation: how tokens and completions are averaged.

    Source:
        arXiv 2402.03300. No KL to a reference model, and the mean over tokens instead of over
        completions, as DAPO (arXiv 2503.14476) has it.
    """
    estimator = partial(group_advantages, norm_by_std=norm_by_std)

    def advantages(batch: BatchRewards) -> NDArray[np.float32]:
        return per_group(estimator, batch.rewards_B, batch.groups_B)

    def loss(tokens: TokenBatch, totals: StepTotals) -> tuple[mx.array, Metrics]:
        return clipped_surrogate(
            tokens.logprobs_BT,
            tokens.behaviour_logprobs_BT,
            tokens.advantages,
            tokens.mask_BT,
            clip_low=clip_low,
            clip_high=clip_high,
            weights_BT=token_weights(
                tokens.mask_BT,
                loss_aggregation,
                num_tokens=totals.num_tokens,
                num_sequences=totals.num_sequences,
                constant_length=totals.max_completion_tokens,
            ),
        )

    return Algorithm(advantages=advantages, loss=loss)
