"""GSPO: one importance ratio a completion, clipped as a whole."""

from functools import partial

from learner.advantages.groups import group_advantages
from learner.algorithm import Algorithm, algorithm
from learner.algorithms._assembly import by_group, critic_free
from learner.losses.kl import NO_KL, KlPenalty
from learner.losses.knobs import ClipHigh, ClipLow, Coefficient
from learner.losses.off_policy import NO_CORRECTION, OffPolicy
from learner.losses.surrogates import gspo_surrogate


@algorithm("gspo")
def gspo(
    *,
    clip_low: ClipLow = 3e-4,
    clip_high: ClipHigh = 4e-4,
    kl: KlPenalty = NO_KL,
    off_policy: OffPolicy = NO_CORRECTION,
    entropy_coefficient: Coefficient = 0.0,
) -> Algorithm:
    """Group sequence policy optimisation.

    Args:
        clip_low: offset of the completion's lower bound from 1.
        clip_high: offset of the completion's upper bound from 1. Both are for completions of
            thousands of tokens and a learning rate of 1e-6; short ones need far wider bounds.
        kl: the pull towards the reference model.
        off_policy: the correction for tokens that an older policy sampled.
        entropy_coefficient: weight of the entropy bonus.

    Source:
        arXiv 2507.18071, section 5.1 for the bounds.
    """
    return critic_free(
        advantages=by_group(group_advantages),
        surrogate=partial(gspo_surrogate, clip_low=clip_low, clip_high=clip_high),
        aggregation="seq_mean_token_mean",
        kl=kl,
        off_policy=off_policy,
        entropy_coefficient=entropy_coefficient,
    )
