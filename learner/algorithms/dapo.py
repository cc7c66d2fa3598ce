"""DAPO: a higher upper bound, the mean over tokens, and a price on running out of length."""

from functools import partial
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from learner.advantages.groups import group_advantages, per_group
from learner.advantages.overlong import soft_overlong_penalty
from learner.algorithm import Algorithm, BatchRewards, algorithm
from learner.algorithms._assembly import critic_free
from learner.losses.kl import NO_KL, KlPenalty
from learner.losses.knobs import ClipHigh, ClipLow, Coefficient
from learner.losses.off_policy import NO_CORRECTION, OffPolicy
from learner.losses.surrogates import clipped_surrogate


@algorithm("dapo")
def dapo(
    *,
    clip_low: ClipLow = 0.2,
    clip_high: ClipHigh = 0.28,
    overlong_buffer: Annotated[int, Field(ge=0)] = 0,
    overlong_penalty: Coefficient = 1.0,
    kl: KlPenalty = NO_KL,
    off_policy: OffPolicy = NO_CORRECTION,
    entropy_coefficient: Coefficient = 0.0,
) -> Algorithm:
    """Decoupled clip and dynamic sampling policy optimisation.

    Args:
        clip_low: offset of the ratio's lower bound from 1.
        clip_high: offset of the ratio's upper bound from 1.
        overlong_buffer: tokens before the limit over which a completion's reward falls; 0 for none.
        overlong_penalty: by how much it has fallen at the limit, in units of reward.
        kl: the pull towards the reference model.
        off_policy: the correction for tokens that an older policy sampled.
        entropy_coefficient: weight of the entropy bonus.

    Source:
        arXiv 2503.14476. Its dynamic sampling, fresh prompts for groups of equal rewards, is the
        learner's: `learner.max_refill_groups` of the config. No KL by default, as there.
    """
    return critic_free(
        advantages=partial(
            _advantages, overlong_buffer=overlong_buffer, overlong_penalty=overlong_penalty
        ),
        surrogate=partial(clipped_surrogate, clip_low=clip_low, clip_high=clip_high),
        aggregation="token_mean",
        kl=kl,
        off_policy=off_policy,
        entropy_coefficient=entropy_coefficient,
    )


def _advantages(
    batch: BatchRewards, *, overlong_buffer: int, overlong_penalty: float
) -> NDArray[np.float32]:
    penalties_B = soft_overlong_penalty(
        batch.completion_tokens_B,
        max_completion_tokens=batch.max_completion_tokens,
        overlong_buffer=overlong_buffer,
        overlong_penalty=overlong_penalty,
    )
    rewards_B = [
        None if reward is None else reward + float(penalty)
        for reward, penalty in zip(batch.rewards_B, penalties_B, strict=True)
    ]
    return per_group(group_advantages, rewards_B, batch.groups_B)
