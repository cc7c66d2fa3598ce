"""CISPO: clip the ratio as a weight, so that no token loses its gradient."""

from functools import partial

from learner.advantages.groups import group_advantages
from learner.algorithm import Algorithm, algorithm
from learner.algorithms._assembly import by_group, critic_free
from learner.losses.kl import NO_KL, KlPenalty
from learner.losses.knobs import ClipHigh, ClipLow, Coefficient
from learner.losses.off_policy import NO_CORRECTION, OffPolicy
from learner.losses.surrogates import cispo_surrogate


@algorithm("cispo")
def cispo(
    *,
    clip_low: ClipLow = 1.0,
    clip_high: ClipHigh = 4.0,
    kl: KlPenalty = NO_KL,
    off_policy: OffPolicy = NO_CORRECTION,
    entropy_coefficient: Coefficient = 0.0,
) -> Algorithm:
    """Clipped importance sampling policy optimisation.

    Args:
        clip_low: offset of the weight's lower bound from 1; 1 for no bound.
        clip_high: offset of the weight's upper bound from 1: TRL's absolute `epsilon_high` less 1.
        kl: the pull towards the reference model.
        off_policy: the correction for tokens that an older policy sampled.
        entropy_coefficient: weight of the entropy bonus.

    Source:
        MiniMax-M1, arXiv 2506.13585, which has no lower bound and does not give its upper one; a
        bound of 5 is what TRL recommends after ScaleRL, arXiv 2510.13786.
    """
    return critic_free(
        advantages=by_group(group_advantages),
        surrogate=partial(cispo_surrogate, clip_low=clip_low, clip_high=clip_high),
        aggregation="token_mean",
        kl=kl,
        off_policy=off_policy,
        entropy_coefficient=entropy_coefficient,
    )
