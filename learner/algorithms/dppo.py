"""DPPO: the trust region is a bound on how far a token's probability may move."""

from functools import partial

from learner.advantages.groups import group_advantages
from learner.algorithm import Algorithm, algorithm
from learner.algorithms._assembly import by_group, critic_free
from learner.losses.kl import NO_KL, KlPenalty
from learner.losses.knobs import Coefficient, Share
from learner.losses.off_policy import NO_CORRECTION, OffPolicy
from learner.losses.surrogates import dppo_surrogate


@algorithm("dppo")
def dppo(
    *,
    mask_low: Share = 0.2,
    mask_high: Share = 0.2,
    penalty: Coefficient = 1e-3,
    norm_by_std: bool = False,
    kl: KlPenalty = NO_KL,
    off_policy: OffPolicy = NO_CORRECTION,
    entropy_coefficient: Coefficient = 0.0,
) -> Algorithm:
    """Divergence proximal policy optimisation, as prime-rl has it.

    Args:
        mask_low: a token with a bad advantage is masked once its probability fell by more.
        mask_high: a token with a good advantage is masked once its probability rose by more.
        penalty: weight of the squared log ratio to the policy that sampled.
        norm_by_std: divide advantages by the group's standard deviation.
        kl: the pull towards the reference model.
        off_policy: the correction for tokens that an older policy sampled.
        entropy_coefficient: weight of the entropy bonus.

    Source:
        The default loss of prime-rl, after arXiv 2602.04879.
    """
    return critic_free(
        advantages=by_group(partial(group_advantages, norm_by_std=norm_by_std)),
        surrogate=partial(dppo_surrogate, mask_low=mask_low, mask_high=mask_high, penalty=penalty),
        aggregation="token_mean",
        kl=kl,
        off_policy=off_policy,
        entropy_coefficient=entropy_coefficient,
        surrogate_teaches=penalty > 0,
    )
