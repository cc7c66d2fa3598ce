"""One training step: a look at the batch, advantages, gradients, one or more optimizer steps.

Knows no algorithm by name, no socket and no file.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from learner.algorithm import Algorithm, BatchRewards, StepTotals
from learner.batch import Column, Extra, Microbatch, microbatches
from learner.critic import Critic
from learner.forward.forward import Forward
from learner.gradients import Gradients, accumulate
from learner.losses.summary import token_figures
from learner.parameters import Parameters
from learner.prior import Prior
from learner.reference import Reference
from learner.samples import ScoredSample
from protocol.config import RunConfig
from protocol.errors import ConfigError
from protocol.policy import Policy

NO_ADVANTAGE = "no_advantage"
"""Why a step is skipped whose rewards are all equal: Adam would move by its momentum alone."""


@dataclass(frozen=True)
class StepResult:
    """What one step did."""

    metrics: dict[str, float]
    """Token means and step figures, under the names of a metrics.jsonl row."""
    advantages: NDArray[np.float32]
    """[B] or [B, T], in the order of the samples."""
    logprobs: tuple[NDArray[np.float32] | None, ...]
    """[T] nats of each sample's tokens before the step; None where the sample was not computed."""
    skipped: str = ""
    """Why nothing was changed; empty for a step that was taken."""


class Trainer:
    """Trains a policy, batch by batch.

    Args:
        policy: what is trained; its parameters are replaced after each step.
        algorithm: advantages and loss.
        config: the run.

    Raises:
        ConfigError: the algorithm wants a critic, and the model does not show its hidden states.
    """

    def __init__(self, policy: Policy, algorithm: Algorithm, config: RunConfig) -> None:
        self.policy = policy
        self._algorithm = algorithm
        self._config = config
        policy.model.train()
        self._forward = forward = Forward(
            policy.model,
            config.learner,
            temperature=config.generation.temperature,
            entropy_gradient=algorithm.entropy_teaches,
        )
        critic = make_critic(forward, config) if algorithm.returns else None
        reference = Reference(policy, forward, config) if algorithm.needs_reference else None
        several_steps = algorithm.epochs * algorithm.minibatches > 1
        self.parameters = Parameters(policy, critic, config)
        self._prior = Prior(forward, critic, reference, proximal=several_steps)

    def step(self, samples: Sequence[ScoredSample], step: int, policy_version: int) -> StepResult:
        """Train on one batch, unless its numbers are not finite or it teaches nothing.

        Args:
            samples: whole groups.
            step: from 0; the schedule's position.
            policy_version: the learner's, before the step.
        """
        valid = [i for i, sample in enumerate(samples) if sample.score.reward is not None]
        if not valid:
            nothing = np.zeros(len(samples), np.float32)
            figures = {"learning_rate": self.parameters.learning_rate(step)}
            return StepResult(figures, nothing, (None,) * len(samples), "masked")
        extra: Extra = {}
        if self._prior.looks:
            parts = self._microbatches(samples, valid, policy_version, extra)
            extra = self._prior.look(parts, len(samples))
        rewards = self._batch_rewards(samples, extra.get("old_values"))
        advantages = _checked(self._algorithm.advantages(rewards), rewards)
        extra["advantages"] = _by_sample(advantages, rewards.completion_tokens_B)
        if self._algorithm.returns is not None:
            returns = self._algorithm.returns(rewards)
            extra["returns"] = _by_sample(returns, rewards.completion_tokens_B)
        progress = _Progress(extra.get("proximal_logprobs", [None] * len(samples)))
        taught = self._taught(valid, extra["advantages"])
        if taught:
            self._optimize(samples, valid, taught, extra, step, policy_version, progress)
        else:
            progress.skipped = NO_ADVANTAGE
        figures = {**progress.figures(), "learning_rate": self.parameters.learning_rate(step)}
        return StepResult(figures, advantages, tuple(progress.logprobs), progress.skipped)

    def logprobs(
        self, samples: Sequence[ScoredSample], temperature: float
    ) -> list[NDArray[np.float32]]:
        """[T] nats of each sample's tokens under the current policy at some temperature."""
        found: dict[int, NDArray[np.float32]] = {}
        for part in self._microbatches(samples, range(len(samples)), 0, {}):
            found |= part.rows(np.array(self._forward(part, temperature).logprobs_BT))
        return [found[index] for index in range(len(samples))]

    def _optimize(
        self,
        samples: Sequence[ScoredSample],
        valid: Sequence[int],
        taught: frozenset[int],
        extra: Extra,
        step: int,
        policy_version: int,
        progress: "_Progress",
    ) -> None:
        """All optimizer steps of a batch, or none: the first fault undoes those before it."""
        before = self.parameters.undo_point()
        for share in self._shares(valid, step):
            computed = [index for index in share if index in taught]
            if not computed:
                continue
            parts = self._microbatches(samples, computed, policy_version, extra)
            gradients = self._accumulate(samples, share, parts)
            progress.add(gradients)
            if progress.is_finite:
                progress.add_norms(self.parameters.apply(gradients.arrays, step))
            if not (progress.is_finite and self.parameters.are_finite()):
                self.parameters.go_back(before)
                progress.skipped = "non_finite"
                return

    def _accumulate(
        self, samples: Sequence[ScoredSample], share: Sequence[int], parts: Sequence[Microbatch]
    ) -> Gradients:
        totals = StepTotals(
            num_tokens=sum(len(samples[index].rollout.token_ids) for index in share),
            num_sequences=len(share),
            max_completion_tokens=self._config.generation.max_completion_tokens,
        )
        return accumulate(
            self.policy.model,
            self._forward,
            self._algorithm,
            self.parameters.trained(),
            parts,
            totals,
        )

    def _shares(self, valid: Sequence[int], step: int) -> Iterator[list[int]]:
        """The samples of each optimizer step: all of them, or random parts in every epoch."""
        minibatches = self._algorithm.minibatches
        for epoch in range(self._algorithm.epochs):
            seed = (self._config.run.seed, step, epoch)
            order = np.random.default_rng(seed).permutation(np.array(valid))
            for part in np.array_split(order, minibatches):
                yield sorted(part.tolist())

    def _taught(self, valid: Sequence[int], advantages: Sequence[Column | None]) -> frozenset[int]:
        """The samples to compute; none where advantages alone teach, and there is none."""
        if self._algorithm.zero_advantages_teach:
            return frozenset(valid)
        teach = frozenset(index for index in valid if np.any(advantages[index]))
        filters = self._config.learner.filter_zero_advantages
        return teach if filters or not teach else frozenset(valid)

    def _microbatches(
        self,
        samples: Sequence[ScoredSample],
        indices: Sequence[int],
        policy_version: int,
        extra: Extra,
    ) -> list[Microbatch]:
        return microbatches(
            samples,
            indices,
            policy_version=policy_version,
            token_budget=self._config.learner.microbatch_tokens,
            share_prompts=self._forward.shares_prompts,
            extra=extra,
        )

    def _batch_rewards(
        self, samples: Sequence[ScoredSample], old_values: Sequence[Column | None] | None
    ) -> BatchRewards:
        lengths = tuple(len(sample.rollout.token_ids) for sample in samples)
        values_BT = None
        if old_values is not None:
            values_BT = np.zeros((len(samples), max(lengths)), np.float32)
            for index, row in enumerate(old_values):
                if row is not None:
                    values_BT[index, : len(row)] = row
        return BatchRewards(
            rewards_B=tuple(sample.score.reward for sample in samples),
            groups_B=tuple(sample.rollout.group_id for sample in samples),
            completion_tokens_B=lengths,
            max_completion_tokens=self._config.generation.max_completion_tokens,
            values_BT=values_BT,
        )


def make_critic(forward: Forward, config: RunConfig) -> Critic:
    """The value head for a model.

    Raises:
        ConfigError: the model does not show its hidden states.
    """
    if not forward.has_hidden_states:
        raise ConfigError(
            "the algorithm needs a critic, and this model does not show its hidden states: choose "
            "an algorithm without one, such as grpo"
        )
    return Critic(forward.hidden_size, config.learner)


@dataclass
class _Progress:
    """What the optimizer steps of one batch add up to."""

    logprobs: list[Column | None]
    """As they were before the first of them."""
    skipped: str = ""
    losses: list[float] = field(default_factory=list)
    norms: dict[str, list[float]] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    num_tokens: int = 0

    def add(self, gradients: Gradients) -> None:
        self.losses.append(gradients.loss)
        self.num_tokens += gradients.num_tokens
        for name, value in gradients.sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        for index, logprobs_T in gradients.logprobs.items():
            if self.logprobs[index] is None:
                self.logprobs[index] = logprobs_T

    def add_norms(self, norms: dict[str, float]) -> None:
        for name, norm in norms.items():
            self.norms.setdefault(name, []).append(norm)

    @property
    def is_finite(self) -> bool:
        norms = [norm for norms in self.norms.values() for norm in norms]
        return all(math.isfinite(figure) for figure in (*self.losses, *norms))

    def figures(self) -> dict[str, float]:
        """Means over optimizer steps, and over tokens."""
        if not self.losses:
            return {}
        return {
            "loss": float(np.mean(self.losses)),
            **{name: float(np.mean(norms)) for name, norms in self.norms.items()},
            **token_figures(self.sums, self.num_tokens),
        }


def _checked(advantages: NDArray[np.float32], rewards: BatchRewards) -> NDArray[np.float32]:
    lengths = rewards.completion_tokens_B
    fits = advantages.shape in ((len(lengths),), (len(lengths), *advantages.shape[1:2]))
    if not fits or (advantages.ndim == 2 and advantages.shape[1] < max(lengths)):
        raise ConfigError(
            f"the algorithm's advantages have shape {list(advantages.shape)}, wanted "
            f"[{len(lengths)}] or [{len(lengths)}, {max(lengths)}]: mend the algorithm"
        )
    return advantages


def _by_sample(figures: NDArray[np.float32], lengths: Sequence[int]) -> list[Column | None]:
    """[B] or [B, T] -> one [T] for each sample."""
    if figures.ndim == 1:
        return [np.full(n, figure, np.float32) for figure, n in zip(figures, lengths, strict=True)]
    return [row[:n] for row, n in zip(figures, lengths, strict=True)]
