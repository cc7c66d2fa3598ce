"""Loss and gradient of one optimizer step, summed over its microbatches."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_unflatten
from numpy.typing import NDArray

from learner.algorithm import Algorithm, StepTotals, TokenBatch
from learner.batch import Microbatch
from learner.critic import values
from learner.forward.forward import Forward
from learner.losses.ratios import Metrics
from learner.masters import Arrays

Trained = dict[str, Arrays]
"""`policy`, and `critic` where there is one: arrays by name."""


@dataclass
class Gradients:
    """What the microbatches of one optimizer step add up to."""

    loss: float = 0.0
    sums: Counter[str] = field(default_factory=Counter)
    """Metrics, summed over tokens."""
    num_tokens: int = 0
    """Tokens that the sums are over."""
    arrays: Trained = field(default_factory=dict)
    """fp32 gradients."""
    logprobs: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    """[T] nats of each sample that was computed, by its index."""


def accumulate(
    model: Any,  # noqa: ANN401 - mlx-lm's models have no common type
    forward: Forward,
    algorithm: Algorithm,
    trained: Trained,
    parts: Sequence[Microbatch],
    totals: StepTotals,
) -> Gradients:
    """Sum loss, metrics and gradients over microbatches, one of which is in memory at a time.

    Args:
        model: what `forward` computes with; it is left with the arrays of `trained`.
        forward: the forward pass.
        algorithm: the loss.
        trained: what the gradient is taken of.
        parts: the microbatches; advantages and what else the loss reads stand in their `extra`.
        totals: denominators of the whole step.
    """

    def loss_of(trained: Trained, part: Microbatch) -> tuple[mx.array, Metrics, mx.array]:
        model.update(tree_unflatten(list(trained["policy"].items())))
        tokens = token_batch(forward, part, trained.get("critic"))
        loss, metrics = algorithm.loss(tokens, totals)
        entropy = mx.where(part.mask_BT, mx.stop_gradient(tokens.entropy_BT), 0.0).sum()
        return loss, {**metrics, "entropy": entropy}, tokens.logprobs_BT

    gradient_of = mx.value_and_grad(loss_of)
    total = Gradients()
    for part in parts:
        (loss, metrics, logprobs_BT), found = gradient_of(trained, part)
        total.arrays = _sum(total.arrays, found)
        mx.eval(loss, metrics, logprobs_BT, total.arrays)
        total.loss += float(loss)
        total.sums.update({name: float(value) for name, value in metrics.items()})
        total.num_tokens += int(part.mask_BT.sum())
        total.logprobs |= part.rows(np.array(logprobs_BT))
    model.update(tree_unflatten(list(trained["policy"].items())))
    return total


def token_batch(forward: Forward, part: Microbatch, critic: Arrays | None) -> TokenBatch:
    """What a loss sees of a microbatch; without earlier logprobs the current ones are proximal."""
    figures = forward(part)
    extra = part.extra
    proximal_BT = extra.get("proximal_logprobs", mx.stop_gradient(figures.logprobs_BT))
    return TokenBatch(
        logprobs_BT=figures.logprobs_BT,
        behaviour_logprobs_BT=part.behaviour_logprobs_BT,
        proximal_logprobs_BT=proximal_BT,
        entropy_BT=figures.entropy_BT,
        staleness_BT=part.staleness_BT,
        advantages=extra["advantages"],
        mask_BT=part.mask_BT,
        ref_logprobs_BT=extra.get("ref_logprobs"),
        values_BT=None if critic is None else values(critic, figures),
        old_values_BT=extra.get("old_values"),
        returns_BT=extra.get("returns"),
    )


def _sum(total: Trained, found: Trained) -> Trained:
    """In fp32, whatever the model computes in."""
    return {
        part: {
            name: array.astype(mx.float32) + total[part][name]
            if total
            else array.astype(mx.float32)
            for name, array in arrays.items()
        }
        for part, arrays in found.items()
    }
