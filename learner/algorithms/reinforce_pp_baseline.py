"""REINFORCE++ with baseline: the group's mean, then one scale for the whole batch."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from learner.advantages.groups import group_advantages, per_group
from learner.advantages.weights import valid_tokens
from learner.advantages.whiten import whiten
from learner.algorithm import Algorithm, BatchRewards, algorithm
from learner.algorithms._assembly import critic_free
from learner.losses.kl import NO_KL, KlPenalty
from learner.losses.knobs import ClipHigh, ClipLow, Coefficient
from learner.losses.off_policy import NO_CORRECTION, OffPolicy
from learner.losses.surrogates import clipped_surrogate


@algorithm("reinforce_pp_baseline")
def reinforce_pp_baseline(
    *,
    clip_low: ClipLow = 0.2,
    clip_high: ClipHigh = 0.2,
    kl: KlPenalty = NO_KL,
    off_policy: OffPolicy = NO_CORRECTION,
    entropy_coefficient: Coefficient = 0.0,
) -> Algorithm:
    """REINFORCE++ with the group's mean as baseline.

    Args:
        clip_low: offset of the ratio's lower bound from 1.
        clip_high: offset of the ratio's upper bound from 1.
        kl: the pull towards the reference model.
        off_policy: the correction for tokens that an older policy sampled.
        entropy_coefficient: weight of the entropy bonus.

    Source:
        arXiv 2501.03262: advantages less the group's mean, whitened over the tokens of the batch;
        its KL is k2 in the loss, `kl: {estimator: k2, coefficient: 0.001}`, left out by default.
        Whitening also takes off the batch's mean, so that groups of equal rewards keep a small
        advantage.
    """
    return critic_free(
        advantages=_advantages,
        surrogate=partial(clipped_surrogate, clip_low=clip_low, clip_high=clip_high),
        aggregation="token_mean",
        kl=kl,
        off_policy=off_policy,
        entropy_coefficient=entropy_coefficient,
    )


def _advantages(batch: BatchRewards) -> NDArray[np.float32]:
    less_mean = partial(group_advantages, norm_by_std=False)
    centred_B = per_group(less_mean, batch.rewards_B, batch.groups_B)
    return whiten(centred_B, valid_tokens(batch.rewards_B, batch.completion_tokens_B))
