"""PPO: a critic says what to expect of each token, and learns from what came."""

from dataclasses import replace
from functools import partial
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from learner.advantages.gae import gae_advantages, gae_returns
from learner.advantages.weights import valid_token_mask
from learner.advantages.whiten import whiten
from learner.algorithm import Algorithm, BatchRewards, algorithm
from learner.algorithms._assembly import critic_free, with_critic
from learner.losses.kl import NO_KL, KlPenalty
from learner.losses.knobs import ClipHigh, ClipLow, Coefficient, Share
from learner.losses.off_policy import NO_CORRECTION, OffPolicy
from learner.losses.surrogates import clipped_surrogate


@algorithm("ppo")
def ppo(
    *,
    clip_low: ClipLow = 0.2,
    clip_high: ClipHigh = 0.2,
    gamma: Share = 1.0,
    lam: Share = 0.95,
    value_clip: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 0.2,
    value_coefficient: Coefficient = 0.5,
    epochs: Annotated[int, Field(ge=1)] = 2,
    minibatches: Annotated[int, Field(ge=1)] = 2,
    kl: KlPenalty = NO_KL,
    off_policy: OffPolicy = NO_CORRECTION,
    entropy_coefficient: Coefficient = 0.0,
) -> Algorithm:
    """Proximal policy optimisation with a critic.

    Args:
        clip_low: offset of the ratio's lower bound from 1.
        clip_high: offset of the ratio's upper bound from 1.
        gamma: discount of what comes one token later.
        lam: 0 trusts the critic alone, 1 the reward alone.
        value_clip: how far an estimate may move in one batch, in units of reward.
        value_coefficient: weight of the critic's loss.
        epochs: how often each batch is gone through.
        minibatches: optimizer steps in one epoch.
        kl: the pull towards the reference model.
        off_policy: the correction for tokens that an older policy sampled.
        entropy_coefficient: weight of the entropy bonus.

    Source:
        arXiv 1707.06347. The reward comes with the last token and the KL is a term of the loss;
        advantages are whitened over the batch, as in InstructGPT, arXiv 2203.02155.
    """
    policy = critic_free(
        advantages=partial(_advantages, gamma=gamma, lam=lam),
        surrogate=partial(clipped_surrogate, clip_low=clip_low, clip_high=clip_high),
        aggregation="token_mean",
        kl=kl,
        off_policy=off_policy,
        entropy_coefficient=entropy_coefficient,
    )
    returns = partial(_returns, gamma=gamma, lam=lam)
    both = with_critic(
        policy, returns=returns, value_coefficient=value_coefficient, value_clip=value_clip
    )
    return replace(both, epochs=epochs, minibatches=minibatches)


def _advantages(batch: BatchRewards, *, gamma: float, lam: float) -> NDArray[np.float32]:
    assert batch.values_BT is not None
    lengths_B = batch.completion_tokens_B
    raw_BT = gae_advantages(batch.rewards_B, batch.values_BT, lengths_B, gamma=gamma, lam=lam)
    return whiten(raw_BT, valid_token_mask(batch.rewards_B, lengths_B, raw_BT.shape[1]))


def _returns(batch: BatchRewards, *, gamma: float, lam: float) -> NDArray[np.float32]:
    assert batch.values_BT is not None
    return gae_returns(
        batch.rewards_B, batch.values_BT, batch.completion_tokens_B, gamma=gamma, lam=lam
    )
