"""KL from the policy being trained to the frozen reference model, by token."""

from typing import Literal, Self

import mlx.core as mx
from pydantic import Field, model_validator

from learner.losses.ratios import Metrics, masked_log_ratio
from protocol.config_section import Section

Estimator = Literal["k1", "k2", "k3"]


class KlPenalty(Section):
    """A term of the loss that keeps the policy near the reference model."""

    estimator: Estimator = "k3"
    """k1: no bias, gradient made that of k2; k2: the KL's own gradient; k3: small variance."""
    coefficient: float = Field(default=0.0, ge=0.0)
    """Weight of the term; with 0 no reference model is loaded."""

    @model_validator(mode="after")
    def _has_a_weight(self) -> Self:
        if "estimator" in self.model_fields_set and self.coefficient == 0.0:
            raise ValueError("without a coefficient it does nothing: set kl.coefficient")
        return self


NO_KL = KlPenalty()


def kl_penalty(
    logprobs_BT: mx.array, ref_logprobs_BT: mx.array, mask_BT: mx.array, *, estimator: Estimator
) -> tuple[mx.array, Metrics]:
    """Estimate of KL(policy || reference) at each token.

        d  = logprobs - ref_logprobs
        k1 = d                      gradient as that of k2
        k2 = d^2 / 2
        k3 = exp(-d) + d - 1

    The gradient of d itself would have mean 0 on-policy, so that k1 in a loss would teach nothing:
    E_pi[grad log pi] = 0. That of k2, d grad log pi, is in the mean the gradient of the KL, so k1
    takes it, straight through. That of k3, (1 - exp(-d)) grad log pi, is in the mean the gradient
    of the reverse, KL(reference || policy), which is the same only near the reference.

    Args:
        logprobs_BT: nats, under the policy being trained; gradients flow.
        ref_logprobs_BT: nats, under the reference model.
        mask_BT: True where a token is trained on.
        estimator: which of the three.

    Returns:
        Estimate by token in nats, 0 outside the mask, and kl_ref, its sum.

    Source:
        Schulman, "Approximating KL Divergence" (2020); k3 in a loss: GRPO, arXiv 2402.03300, eq. 4.
        The log ratio is clamped as in `masked_log_ratio`.
    """
    log_ratio_BT = masked_log_ratio(logprobs_BT, mx.stop_gradient(ref_logprobs_BT), mask_BT)
    if estimator == "k3":
        kl_BT = mx.expm1(-log_ratio_BT) + log_ratio_BT
    else:
        kl_BT = 0.5 * mx.square(log_ratio_BT)
        if estimator == "k1":
            kl_BT = mx.stop_gradient(log_ratio_BT - kl_BT) + kl_BT
    return kl_BT, {"kl_ref": mx.stop_gradient(kl_BT.sum())}
