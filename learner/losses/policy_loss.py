"""The parts of a loss put together: what an algorithm gives as its `loss`."""

from collections.abc import Callable

import mlx.core as mx

from learner.algorithm import StepTotals, TokenBatch
from learner.losses.aggregation import Aggregation, token_weights
from learner.losses.critic import value_loss
from learner.losses.kl import NO_KL, KlPenalty, kl_penalty
from learner.losses.off_policy import (
    NO_CORRECTION,
    OffPolicy,
    correction_weights,
    interpolated_proximal,
)
from learner.losses.ratios import Metrics, mismatch_metrics
from learner.losses.surrogates import Surrogate


def policy_loss(
    tokens: TokenBatch,
    totals: StepTotals,
    *,
    surrogate: Surrogate,
    aggregation: Aggregation,
    kl: KlPenalty = NO_KL,
    off_policy: OffPolicy = NO_CORRECTION,
    entropy_coefficient: float = 0.0,
) -> tuple[mx.array, Metrics]:
    """Loss of a policy.

        L = sum_BT weights * (w * surrogate + kl.coefficient * kl - entropy_coefficient * entropy)

    Args:
        tokens: a microbatch.
        totals: denominators of the step.
        surrogate: a function of losses/surrogates.py, its knobs bound.
        aggregation: how tokens and completions are averaged; it makes `weights`.
        kl: the pull towards the reference model.
        off_policy: the correction; it makes `w`, and what the surrogate's ratio is taken to.
        entropy_coefficient: weight of the entropy that keeps the policy from settling early.

    Returns:
        This microbatch's part of the step's loss, and sums over its tokens: those of
        `mismatch_metrics`, of the surrogate, and of the penalty and the correction where there
        is one.
    """
    mask_BT = tokens.mask_BT
    old_BT, factor_BT, correction_metrics = _corrected(tokens, off_policy)
    term_BT, surrogate_metrics = surrogate(
        tokens.logprobs_BT, old_BT, _by_token(tokens.advantages), mask_BT
    )
    term_BT = factor_BT * term_BT
    metrics = {
        **mismatch_metrics(tokens.logprobs_BT, tokens.behaviour_logprobs_BT, mask_BT),
        **surrogate_metrics,
        **correction_metrics,
    }
    if kl.coefficient > 0:
        kl_BT, kl_metrics = _kl(tokens, kl)
        term_BT = term_BT + kl.coefficient * kl_BT
        metrics |= kl_metrics
    if entropy_coefficient > 0:
        term_BT = term_BT - entropy_coefficient * mx.where(mask_BT, tokens.entropy_BT, 0.0)
    return (_weights(mask_BT, aggregation, totals) * term_BT).sum(), metrics


def actor_critic_loss(
    tokens: TokenBatch,
    totals: StepTotals,
    *,
    policy: Callable[[TokenBatch, StepTotals], tuple[mx.array, Metrics]],
    aggregation: Aggregation,
    value_coefficient: float,
    value_clip: float,
) -> tuple[mx.array, Metrics]:
    """Loss of a policy and of its critic.

        L = policy + value_coefficient * sum_BT weights * value_loss

    Args:
        tokens: a microbatch, with a critic's estimates.
        totals: denominators of the step.
        policy: the policy's loss, its knobs bound.
        aggregation: how the critic's tokens and completions are averaged.
        value_coefficient: weight of the critic's loss.
        value_clip: as in `value_loss`.

    Returns:
        This microbatch's part of the step's loss, and the metrics of both.
    """
    assert tokens.values_BT is not None
    assert tokens.old_values_BT is not None
    assert tokens.returns_BT is not None
    loss, metrics = policy(tokens, totals)
    value_BT, value_metrics = value_loss(
        tokens.values_BT,
        tokens.old_values_BT,
        tokens.returns_BT,
        tokens.mask_BT,
        value_clip=value_clip,
    )
    critic_loss = (_weights(tokens.mask_BT, aggregation, totals) * value_BT).sum()
    return loss + value_coefficient * critic_loss, {**metrics, **value_metrics}


def _corrected(tokens: TokenBatch, off_policy: OffPolicy) -> tuple[mx.array, mx.array, Metrics]:
    """What the surrogate's ratio is taken to, the factor of each token, and metrics."""
    behaviour_BT = tokens.behaviour_logprobs_BT
    if off_policy.correction == "none":
        old_BT = behaviour_BT
    elif off_policy.proximal == "interpolated":
        old_BT = interpolated_proximal(tokens.logprobs_BT, behaviour_BT, tokens.staleness_BT)
    else:
        old_BT = tokens.proximal_logprobs_BT
    old_BT = mx.stop_gradient(old_BT)
    factor_BT, metrics = correction_weights(
        old_BT, behaviour_BT, tokens.mask_BT, settings=off_policy
    )
    return old_BT, factor_BT, metrics


def _kl(tokens: TokenBatch, kl: KlPenalty) -> tuple[mx.array, Metrics]:
    assert tokens.ref_logprobs_BT is not None
    return kl_penalty(
        tokens.logprobs_BT, tokens.ref_logprobs_BT, tokens.mask_BT, estimator=kl.estimator
    )


def _weights(mask_BT: mx.array, aggregation: Aggregation, totals: StepTotals) -> mx.array:
    return token_weights(
        mask_BT,
        aggregation,
        num_tokens=totals.num_tokens,
        num_sequences=totals.num_sequences,
        constant_length=totals.max_completion_tokens,
    )


def _by_token(advantages: mx.array) -> mx.array:
    return advantages[:, None] if advantages.ndim == 1 else advantages
