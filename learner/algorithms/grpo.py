"""GRPO: the group is its own baseline, the clipped objective is its loss."""

from functools import partial

from learner.advantages.groups import group_advantages
from learner.algorithm import Algorithm, algorithm
from learner.algorithms._assembly import by_group, critic_free
from learner.losses.aggregation import Aggregation
from learner.losses.kl import NO_KL, KlPenalty
from learner.losses.knobs import ClipHigh, ClipLow, Coefficient, DualClip
from learner.losses.off_policy import NO_CORRECTION, OffPolicy
from learner.losses.surrogates import clipped_surrogate


@algorithm("grpo")
def grpo(
    *,
    clip_low: ClipLow = 0.2,
    clip_high: ClipHigh = 0.2,
    dual_clip: DualClip | None = None,
    norm_by_std: bool = True,
    loss_aggregation: Aggregation = "token_mean",
    kl: KlPenalty = NO_KL,
    off_policy: OffPolicy = NO_CORRECTION,
    entropy_coefficient: Coefficient = 0.0,
) -> Algorithm:
    """Group relative policy optimisation.

    Args:
        clip_low: offset of the ratio's lower bound from 1.
        clip_high: offset of the ratio's upper bound from 1.
        dual_clip: the ratio from which on a token with a bad advantage has no gradient.
        norm_by_std: divide advantages by the group's standard deviation.
        loss_aggregation: how tokens and completions are averaged.
        kl: the pull towards the reference model.
        off_policy: the correction for tokens that an older policy sampled.
        entropy_coefficient: weight of the entropy bonus.

    Source:
        arXiv 2402.03300. By default no KL to a reference model, and the mean over tokens instead
        of over completions, as DAPO (arXiv 2503.14476) has it.
    """
    return critic_free(
        advantages=by_group(partial(group_advantages, norm_by_std=norm_by_std)),
        surrogate=partial(
            clipped_surrogate, clip_low=clip_low, clip_high=clip_high, dual_clip=dual_clip
        ),
        aggregation=loss_aggregation,
        kl=kl,
        off_policy=off_policy,
        entropy_coefficient=entropy_coefficient,
    )
