"""What the algorithms of this folder are put together with; no algorithm itself."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from learner.advantages.groups import per_group
from learner.algorithm import Algorithm, BatchRewards
from learner.losses.aggregation import Aggregation
from learner.losses.kl import KlPenalty
from learner.losses.off_policy import OffPolicy
from learner.losses.policy_loss import actor_critic_loss, policy_loss
from learner.losses.surrogates import Surrogate

Advantages = Callable[[BatchRewards], NDArray[np.float32]]


def by_group(estimator: Callable[[Sequence[float | None]], NDArray[np.float32]]) -> Advantages:
    """Advantages that look at one group at a time.

    Args:
        estimator: a function of learner/advantages/groups.py, its knobs bound.
    """

    def advantages(batch: BatchRewards) -> NDArray[np.float32]:
        return per_group(estimator, batch.rewards_B, batch.groups_B)

    return advantages


def critic_free(
    *,
    advantages: Advantages,
    surrogate: Surrogate,
    aggregation: Aggregation,
    kl: KlPenalty,
    off_policy: OffPolicy,
    entropy_coefficient: float,
    surrogate_teaches: bool = False,
) -> Algorithm:
    """An algorithm whose loss is `policy_loss`.

    Args:
        advantages: of a batch.
        surrogate: a function of learner/losses/surrogates.py, its knobs bound.
        aggregation: how tokens and completions are averaged.
        kl: the pull towards the reference model, which is needed only if this has a weight.
        off_policy: the correction for tokens that an older policy sampled.
        entropy_coefficient: weight of the entropy bonus.
        surrogate_teaches: whether the surrogate has a gradient where the advantage is 0.
    """
    regularised = kl.coefficient > 0 or entropy_coefficient > 0
    return Algorithm(
        advantages=advantages,
        loss=partial(
            policy_loss,
            surrogate=surrogate,
            aggregation=aggregation,
            kl=kl,
            off_policy=off_policy,
            entropy_coefficient=entropy_coefficient,
        ),
        needs_reference=kl.coefficient > 0,
        entropy_teaches=entropy_coefficient > 0,
        zero_advantages_teach=surrogate_teaches or regularised,
    )


def with_critic(
    policy: Algorithm,
    *,
    returns: Advantages,
    value_coefficient: float,
    value_clip: float,
    aggregation: Aggregation = "token_mean",
) -> Algorithm:
    """The same algorithm, teaching a critic besides.

    Args:
        policy: what the policy learns from.
        returns: what the critic should have said, [B, T].
        value_coefficient: weight of the critic's loss.
        value_clip: how far an estimate may move in one batch, in units of reward.
        aggregation: how the critic's tokens and completions are averaged.
    """
    loss = partial(
        actor_critic_loss,
        policy=policy.loss,
        aggregation=aggregation,
        value_coefficient=value_coefficient,
        value_clip=value_clip,
    )
    return replace(policy, loss=loss, returns=returns, zero_advantages_teach=True)
