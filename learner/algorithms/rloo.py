"""RLOO: the other completions of the group are the baseline."""

from functools import partial

from learner.advantages.groups import leave_one_out
from learner.algorithm import Algorithm, algorithm
from learner.algorithms._assembly import by_group, critic_free
from learner.losses.kl import NO_KL, KlPenalty
from learner.losses.knobs import ClipHigh, ClipLow, Coefficient
from learner.losses.off_policy import NO_CORRECTION, OffPolicy
from learner.losses.surrogates import clipped_surrogate


@algorithm("rloo")
def rloo(
    *,
    clip_low: ClipLow = 0.2,
    clip_high: ClipHigh = 0.2,
    kl: KlPenalty = NO_KL,
    off_policy: OffPolicy = NO_CORRECTION,
    entropy_coefficient: Coefficient = 0.0,
) -> Algorithm:
    """REINFORCE leave-one-out.

    Args:
        clip_low: offset of the ratio's lower bound from 1.
        clip_high: offset of the ratio's upper bound from 1.
        kl: the pull towards the reference model.
        off_policy: the correction for tokens that an older policy sampled.
        entropy_coefficient: weight of the entropy bonus.

    Source:
        arXiv 2402.14740: a completion is one action, so its tokens' terms are summed (and divided
        by a constant, the longest completion that is sampled). On-policy it is REINFORCE, as there;
        the clipped ratio is for tokens that an older policy sampled. The KL is a term of the loss,
        there it is part of the reward.
    """
    return critic_free(
        advantages=by_group(leave_one_out),
        surrogate=partial(clipped_surrogate, clip_low=clip_low, clip_high=clip_high),
        aggregation="seq_mean_token_sum_norm",
        kl=kl,
        off_policy=off_policy,
        entropy_coefficient=entropy_coefficient,
    )
