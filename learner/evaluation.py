"""One evaluation: what every evaluator says of its suite's completions, and their rows on disk."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from learner.evaluator import Evaluate, PolicyView
from learner.exchange.evaluation_book import SuitePrompts
from learner.exchange.prompt_book import PromptEntry
from learner.samples import ScoredSample, SuiteSamples
from learner.step import Trainer
from protocol.errors import RunStopped

COMPARED_AT = 1.0
"""The temperature at which an evaluator is told logprobs."""


class Plan(NamedTuple):
    """One evaluator and what it is given."""

    evaluate: Evaluate
    suite: int | None
    """Index of the suite whose completions it takes; None: it takes the prompts."""
    prompts: Sequence[PromptEntry]


@dataclass(frozen=True)
class Result:
    """What one evaluator said."""

    name: str
    figures: Mapping[str, float]
    num_prompts: int
    """That it was given."""
    samples: Sequence[ScoredSample] = ()


@dataclass(frozen=True)
class Evaluation:
    """All evaluators of a run."""

    plans: Sequence[Plan] = ()
    suites: Sequence[SuitePrompts] = field(default=())

    def missing(self, found: SuiteSamples, where: str) -> int:
        """Prompts that were lost.

        Raises:
            RunStopped: a suite lost all of its prompts.
        """
        missing = 0
        for suite, samples in zip(self.suites, found, strict=True):
            if not samples:
                raise RunStopped(
                    f"{where} lost all {len(suite.prompts)} prompts: the actors' log says why"
                )
            missing += len(suite.prompts) - len({sample.prompt_id for sample in samples})
        return missing

    def results(self, found: SuiteSamples, policy: PolicyView) -> list[Result]:
        """What every evaluator says.

        Args:
            found: completions, by suite.
            policy: the one that they are of.
        """
        results: list[Result] = []
        for plan in self.plans:
            if plan.suite is None:
                figures, samples = plan.evaluate(plan.prompts, policy), ()
                number = len(plan.prompts)
            else:
                samples = found[plan.suite]
                figures = plan.evaluate(samples, policy)
                number = len({sample.prompt_id for sample in samples})
            results.append(Result(plan.evaluate.name, figures, number, samples))
        return results


def policy_view(trainer: Trainer) -> PolicyView:
    """The policy that is trained, as evaluators may look at it."""

    def logprobs(
        prompts: Sequence[NDArray[np.int32]], completions: Sequence[NDArray[np.int32]]
    ) -> list[NDArray[np.float32]]:
        rows = [_as_sample(*pair) for pair in zip(prompts, completions, strict=True)]
        return trainer.logprobs(rows, COMPARED_AT)

    return PolicyView(logprobs, trainer.policy.tokenizer)


def _as_sample(prompt_ids: NDArray[np.int32], token_ids: NDArray[np.int32]) -> ScoredSample:
    """What a microbatch reads of a sample, with the text in the completion's place."""
    rollout = SimpleNamespace(
        token_ids=token_ids,
        behaviour_logprobs=np.zeros(len(token_ids), np.float32),
        policy_versions=((0, len(token_ids)),),
    )
    return cast(ScoredSample, SimpleNamespace(prompt_ids=prompt_ids, rollout=rollout))


def evaluated_rows(samples: Sequence[ScoredSample]) -> Iterator[dict[str, Any]]:
    """One row a completion, in an order that two evaluations share."""
    for sample in samples:
        rollout, score = sample.rollout, sample.score
        yield {
            "prompt_id": sample.prompt_id,
            "sample": rollout.sample,
            "prompt": sample.prompt,
            "completion": rollout.completion,
            "completion_tokens": len(rollout.token_ids),
            "rewards": {named.name: named.reward for named in score.rewards},
            "reward": score.reward,
            "status": score.status,
            "finish_reason": rollout.finish_reason,
        }


def shown(figures: Mapping[str, float]) -> str:
    """Figures as a line of the log: an interval stands behind its figure."""
    words: list[str] = []
    for name, value in figures.items():
        if name.endswith(("_low", "_high")):
            continue
        low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
        between = "" if low is None or high is None else f" ({low:.4g} to {high:.4g})"
        words.append(f"{name} {value:.4g}{between}")
    return ", ".join(words)


def is_finite(figures: Mapping[str, float]) -> bool:
    """Whether every figure is a number."""
    return all(math.isfinite(value) for value in figures.values())
