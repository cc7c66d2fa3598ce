"""Dr. GRPO: GRPO without the two divisions that favour some prompts and lengths."""

from functools import partial

from learner.advantages.groups import group_advantages
from learner.algorithm import Algorithm, algorithm
from learner.algorithms._assembly import by_group, critic_free
from learner.losses.kl import NO_KL, KlPenalty
from learner.losses.knobs import ClipHigh, ClipLow, Coefficient
from learner.losses.off_policy import NO_CORRECTION, OffPolicy
from learner.losses.surrogates import clipped_surrogate


@algorithm("dr_grpo")
def dr_grpo(
    *,
    clip_low: ClipLow = 0.2,
    clip_high: ClipHigh = 0.2,
    kl: KlPenalty = NO_KL,
    off_policy: OffPolicy = NO_CORRECTION,
    entropy_coefficient: Coefficient = 0.0,
) -> Algorithm:
    """GRPO done right.

    Args:
        clip_low: offset of the ratio's lower bound from 1.
        clip_high: offset of the ratio's upper bound from 1.
        kl: the pull towards the reference model.
        off_policy: the correction for tokens that an older policy sampled.
        entropy_coefficient: weight of the entropy bonus.

    Source:
        arXiv 2503.20783: no division by the group's standard deviation, which makes very easy and
        very hard prompts count more, nor by the completion's length, which makes long wrong answers
        cost less; the sum over tokens is divided by the same constant in all steps, the longest
        completion that is sampled.
    """
    return critic_free(
        advantages=by_group(partial(group_advantages, norm_by_std=False)),
        surrogate=partial(clipped_surrogate, clip_low=clip_low, clip_high=clip_high),
        aggregation="seq_mean_token_sum_norm",
        kl=kl,
        off_policy=off_policy,
        entropy_coefficient=entropy_coefficient,
    )
