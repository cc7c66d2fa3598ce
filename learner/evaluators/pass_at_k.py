"""Probability that one of k completions of a prompt is right."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from learner.evaluator import evaluator
from learner.evaluators._by_prompt import mean_figures, rewards_by_prompt
from learner.samples import ScoredSample
from protocol.errors import ConfigError

Ks = Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=1)]


def check_k(num_samples: int, *, k: Sequence[int] = (1,), **_parameters: object) -> None:
    """Refuse a k above the number of samples.

    Raises:
        ConfigError: there is one.
    """
    if max(k) > num_samples:
        raise ConfigError(
            f"pass@{max(k)} needs at least {max(k)} samples a prompt, num_samples is "
            f"{num_samples}: raise it (and set a temperature), or leave that k out"
        )


@evaluator("pass_at_k", check=check_k)
def pass_at_k(
    samples: Sequence[ScoredSample],
    *,
    k: Ks = [1],  # noqa: B006 - never changed
    reward: str | None = None,
    threshold: float = 1.0,
) -> dict[str, float]:
    """Unbiased estimate of pass@k, for each k.

    Args:
        samples: completions of the held-out prompts, at least k of each.
        k: how many completions one has.
        reward: name of the reward function that decides; the first one by default.
        threshold: the reward of a right answer.

    Returns:
        pass_at_<k>: mean over prompts; pass_at_<k>_low, pass_at_<k>_high: its 95 % interval. A
            prompt with fewer than k completions that have the reward is left out.
        n: prompts with such a completion.
    """
    found = rewards_by_prompt(samples, reward)
    figures: dict[str, float] = {}
    for each in k:
        enough = {name: rewards for name, rewards in found.items() if len(rewards) >= each}
        figures |= mean_figures(
            f"pass_at_{each}",
            enough,
            lambda rewards, each=each: estimate(
                len(rewards), sum(value >= threshold for value in rewards), each
            ),
        )
    return {**figures, "n": len(found)}


def estimate(number: int, right: int, k: int) -> float:
    """Share of the ways to draw k completions in which one at least is right.

        1 - C(number - right, k) / C(number, k)

    Source:
        Chen et al. 2021, arXiv 2107.03374, equation 1, as the product of its figure 3, which does
        not overflow.
    """
    if number - right < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(number - right + 1, number + 1)))
