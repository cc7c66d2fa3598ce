"""Corrections for tokens that another policy sampled than the one the update begins from.

Three policies meet in a step: the behaviour policy that sampled a token, the proximal policy that
the learner held when the batch came, and the one being trained. A correction splits the ratio
pi / behaviour into pi / proximal, which the surrogate bounds, and proximal / behaviour, which is a
weight without gradient.
"""

from typing import Literal, Self

import mlx.core as mx
from pydantic import Field, model_validator

from learner.losses.ratios import Metrics, masked_log_ratio
from protocol.config_section import Section


class OffPolicy(Section):
    """Which correction, and its bounds."""

    correction: Literal["none", "tis", "token_mask", "geo_mask", "decoupled"] = "none"
    """none: the surrogate's ratio is taken to the behaviour policy, and nothing is weighted."""
    proximal: Literal["recomputed", "interpolated"] = "recomputed"
    """interpolated: estimated from how stale each token is, without a forward pass."""
    tis_clip: float = Field(default=2.0, gt=0.0)
    """tis: the largest weight of a token."""
    token_mask_low: float = Field(default=0.5, ge=0.0)
    """token_mask: a token with a smaller weight is dropped."""
    token_mask_high: float = Field(default=5.0, gt=0.0)
    """token_mask: a token with a larger weight is dropped."""
    geo_mask_low: float = Field(default=0.99, ge=0.0)
    """geo_mask: a completion whose tokens have a smaller geometric mean weight is dropped."""
    geo_mask_high: float = Field(default=1.01, gt=0.0)
    """geo_mask: a completion whose tokens have a larger geometric mean weight is dropped."""
    decoupled_cap: float | None = Field(default=None, gt=0.0)
    """decoupled: the largest weight of a token; without it there is no bound."""

    @model_validator(mode="after")
    def _every_bound_is_used(self) -> Self:
        for key in sorted(self.model_fields_set - {"correction", "proximal"}):
            if not key.startswith(self.correction):
                raise ValueError(f"{key} does nothing with the correction {self.correction!r}")
        return self

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> Self:
        for kind in ("token_mask", "geo_mask"):
            low, high = getattr(self, f"{kind}_low"), getattr(self, f"{kind}_high")
            if low > high:
                raise ValueError(f"{kind}_low {low} is above {kind}_high {high}")
        return self


NO_CORRECTION = OffPolicy()


def interpolated_proximal(
    logprobs_BT: mx.array, behaviour_logprobs_BT: mx.array, staleness_BT: mx.array
) -> mx.array:
    """Proximal logprobs without a forward pass.

        log prox = log mu + a (sg[log pi] - log mu),  a = s / (s + 1)

    A token of staleness s was sampled by version v - s; the batch came at version v and is making
    v + 1. If log pi moves evenly from version to version, then at v it has gone the part
    a = (v - (v - s)) / (v + 1 - (v - s)) of its way.

    Args:
        logprobs_BT: nats, under the policy being trained; no gradient flows.
        behaviour_logprobs_BT: nats, under the policy that sampled the token.
        staleness_BT: versions.

    Returns:
        [B, T] nats.

    Source:
        A-3PO, arXiv 2512.06547; `loglinear` in AReaL.
    """
    share_BT = staleness_BT / (staleness_BT + 1.0)
    moved_BT = mx.stop_gradient(logprobs_BT) - behaviour_logprobs_BT
    return behaviour_logprobs_BT + share_BT * moved_BT


def correction_weights(
    proximal_logprobs_BT: mx.array,
    behaviour_logprobs_BT: mx.array,
    mask_BT: mx.array,
    *,
    settings: OffPolicy,
) -> tuple[mx.array, Metrics]:
    """Factor of each token's loss for having been sampled by the behaviour policy.

        r          = exp(proximal_logprobs - behaviour_logprobs)
        none:        1
        tis:         min(r, tis_clip)
        token_mask:  r if token_mask_low <= r <= token_mask_high, else 0
        geo_mask:    1 if geo_mask_low <= exp(mean_t log r) <= geo_mask_high, else 0
        decoupled:   r, or min(r, decoupled_cap)

    Args:
        proximal_logprobs_BT: nats, under the policy that the update begins from.
        behaviour_logprobs_BT: nats, under the policy that sampled the token.
        mask_BT: True where a token is trained on; a row is a whole completion.
        settings: which correction, and its bounds.

    Returns:
        [B, T] without gradient, 0 outside the mask; and, for a correction other than none, sums
        over the tokens: off_policy_weight (the factor) and off_policy_cut (1 where the token was
        dropped or its weight truncated). Dropped tokens stay in the loss's denominator.

    Source:
        tis: Yao et al., "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training"
        (2025). token_mask: IcePop of Ring-1T, arXiv 2510.18855. geo_mask: verl's rejection by the
        geometric mean, after Liu et al., "When Speed Kills Stability" (2025). decoupled: AReaL,
        arXiv 2505.24298. verl and slime take dropped tokens out of the denominator, so that what
        is left weighs more the more is dropped; here it does not.
    """
    if settings.correction == "none":
        return mask_BT.astype(mx.float32), {}
    log_ratio_BT = mx.stop_gradient(
        masked_log_ratio(proximal_logprobs_BT, behaviour_logprobs_BT, mask_BT)
    )
    raw_BT, bounded_BT = _bounded(log_ratio_BT, mask_BT, settings)
    weight_BT = mx.where(mask_BT, bounded_BT, 0.0)
    cut_BT = mask_BT & (weight_BT != raw_BT)
    return weight_BT, {
        "off_policy_weight": weight_BT.sum(),
        "off_policy_cut": cut_BT.astype(mx.float32).sum(),
    }


def _bounded(
    log_ratio_BT: mx.array, mask_BT: mx.array, settings: OffPolicy
) -> tuple[mx.array, mx.array]:
    """Weights of tokens before and after the bounds of a correction other than none."""
    raw_BT = mx.exp(log_ratio_BT)
    if settings.correction == "token_mask":
        kept_BT = _within(raw_BT, settings.token_mask_low, settings.token_mask_high)
        return raw_BT, raw_BT * kept_BT
    if settings.correction == "geo_mask":
        tokens_B1 = mx.maximum(mask_BT.astype(mx.float32).sum(axis=1, keepdims=True), 1.0)
        mean_B1 = mx.exp(log_ratio_BT.sum(axis=1, keepdims=True) / tokens_B1)
        ones_BT = mx.ones_like(raw_BT)
        return ones_BT, ones_BT * _within(mean_B1, settings.geo_mask_low, settings.geo_mask_high)
    cap = settings.tis_clip if settings.correction == "tis" else settings.decoupled_cap
    return raw_BT, raw_BT if cap is None else mx.minimum(raw_BT, cap)


def _within(array: mx.array, low: float, high: float) -> mx.array:
    return ((array >= low) & (array <= high)).astype(mx.float32)
