"""One training step: advantages, microbatches, gradients, one optimizer step.

Knows no algorithm by name, no socket and no file.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.tuner.trainer import grad_checkpoint
from numpy.typing import NDArray

from learner.algorithm import Algorithm, BatchRewards, StepTotals, TokenBatch
from learner.batch import Microbatch, microbatches
from learner.losses import Metrics
from learner.masters import Arrays, Masters
from learner.optimizer import apply_gradients, learning_rate_at, make_optimizer
from learner.samples import ScoredSample
from protocol.config import RunConfig
from protocol.policy import Policy, logits


@dataclass(frozen=True)
class StepResult:
    """What one step did."""

    metrics: dict[str, float]
    """Token means and step figures, under the names of a metrics.jsonl row."""
    advantages: NDArray[np.float32]
    """[B] or [B, T], in the order of the samples."""
    logprobs: tuple[NDArray[np.float32] | None, ...]
    """[T] nats of each sample's tokens before the step; None where the sample was masked."""
    skipped: str = ""
    """Why nothing was changed; empty for a step that was taken."""


class Trainer:
    """Policy, masters and optimizer of the learner.

    Args:
        policy: what is trained; its parameters are replaced after each step.
        algorithm: advantages and loss.
        config: the run.
    """

    def __init__(self, policy: Policy, algorithm: Algorithm, config: RunConfig) -> None:
        self.policy = policy
        self.masters = Masters(policy)
        self.optimizer = make_optimizer(config.learner.optimizer, self.masters.arrays)
        self._algorithm = algorithm
        self._config = config
        policy.model.train()
        if config.learner.grad_checkpoint:
            grad_checkpoint(policy.model.layers[0])

    def step(self, samples: Sequence[ScoredSample], step: int) -> StepResult:
        """Train on one batch, unless its loss or gradient is not finite.

        Args:
            samples: whole groups.
            step: from 0; the schedule's position.
        """
        section = self._config.learner
        advantages = self._algorithm.advantages(_batch_rewards(samples))
        parts = microbatches(samples, advantages, section.microbatch_tokens)
        learning_rate = learning_rate_at(step, section.optimizer, self._config.run.max_steps)
        logprobs: list[NDArray[np.float32] | None] = [None] * len(samples)
        if not parts:
            return StepResult(
                {"learning_rate": learning_rate}, advantages, tuple(logprobs), "masked"
            )
        loss, metrics, gradients = self._accumulate(samples, parts, logprobs)
        figures = {"loss": loss, "learning_rate": learning_rate, **metrics}
        if not math.isfinite(loss):
            return StepResult(figures, advantages, tuple(logprobs), "non_finite")
        parameters, figures["grad_norm"] = apply_gradients(
            self.optimizer,
            self.masters.arrays,
            gradients,
            learning_rate=learning_rate,
            max_grad_norm=section.optimizer.max_grad_norm,
        )
        if not math.isfinite(figures["grad_norm"]):
            return StepResult(figures, advantages, tuple(logprobs), "non_finite")
        self.masters.replace(parameters)
        return StepResult(figures, advantages, tuple(logprobs))

    def _accumulate(
        self,
        samples: Sequence[ScoredSample],
        parts: Sequence[Microbatch],
        logprobs: list[NDArray[np.float32] | None],
    ) -> tuple[float, dict[str, float], Arrays]:
        """Sum loss, metrics and gradients over microbatches; note each sample's logprobs."""
        totals = _totals(parts, self._config.generation.max_completion_tokens)
        gradient_of = nn.value_and_grad(self.policy.model, partial(self._loss, totals=totals))
        loss, sums = 0.0, Counter[str]()
        gradients = {name: mx.zeros_like(array) for name, array in self.masters.arrays.items()}
        for part in parts:
            (part_loss, part_metrics, part_logprobs), tree = gradient_of(part)
            for name, gradient in cast("list[tuple[str, mx.array]]", tree_flatten(tree)):
                gradients[name] += gradient.astype(mx.float32)
            mx.eval(part_loss, part_metrics, part_logprobs, gradients)
            loss += float(part_loss)
            sums.update({name: float(value) for name, value in part_metrics.items()})
            _note_logprobs(samples, part, np.array(part_logprobs), logprobs)
        means = {name: value / totals.num_tokens for name, value in sums.items()}
        return loss, means, gradients

    def _loss(self, part: Microbatch, *, totals: StepTotals) -> tuple[mx.array, Metrics, mx.array]:
        scaled_BTV = logits(self.policy.model, part.inputs_BT) / self._config.generation.temperature
        normalizer_BT = mx.logsumexp(scaled_BTV, axis=-1)
        picked_BT = mx.take_along_axis(scaled_BTV, part.targets_BT[..., None], axis=-1)[..., 0]
        logprobs_BT = picked_BT - normalizer_BT
        loss, metrics = self._algorithm.loss(
            TokenBatch(
                logprobs_BT=logprobs_BT,
                behaviour_logprobs_BT=part.behaviour_logprobs_BT,
                advantages=part.advantages_BT,
                mask_BT=part.mask_BT,
            ),
            totals,
        )
        entropy = _entropy_sum(mx.stop_gradient(scaled_BTV), normalizer_BT, part.mask_BT)
        return loss, {**metrics, "entropy": entropy}, logprobs_BT


def _entropy_sum(scaled_BTV: mx.array, normalizer_BT: mx.array, mask_BT: mx.array) -> mx.array:
    """Entropy in nats at the sampling temperature, summed over the mask.

    H = logsumexp(z) - sum_v softmax(z)_v z_v
    """
    probabilities_BTV = mx.softmax(scaled_BTV, axis=-1)
    entropy_BT = mx.stop_gradient(normalizer_BT) - (probabilities_BTV * scaled_BTV).sum(axis=-1)
    return mx.where(mask_BT, entropy_BT, 0.0).sum()


def _batch_rewards(samples: Sequence[ScoredSample]) -> BatchRewards:
    return BatchRewards(
        rewards_B=tuple(sample.score.reward for sample in samples),
        groups_B=tuple(sample.rollout.group_id for sample in samples),
        completion_tokens_B=tuple(len(sample.rollout.token_ids) for sample in samples),
    )


def _totals(parts: Sequence[Microbatch], max_completion_tokens: int) -> StepTotals:
    return StepTotals(
        num_tokens=sum(int(part.mask_BT.sum()) for part in parts),
        num_sequences=sum(len(part.indices) for part in parts),
        max_completion_tokens=max_completion_tokens,
    )


def _note_logprobs(
    samples: Sequence[ScoredSample],
    part: Microbatch,
    logprobs_BT: NDArray[np.float32],
    logprobs: list[NDArray[np.float32] | None],
) -> None:
    for row, (index, start) in enumerate(zip(part.indices, part.starts, strict=True)):
        end = start + len(samples[index].rollout.token_ids)
        logprobs[index] = logprobs_BT[row, start:end].copy()
