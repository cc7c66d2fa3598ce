"""Figures over prompts: what the evaluators that judge rewards have in common."""

import math
from collections.abc import Callable, Mapping, Sequence

from learner.confidence import mean_interval
from learner.samples import ScoredSample


def rewards_by_prompt(
    samples: Sequence[ScoredSample], reward: str | None = None
) -> dict[str, list[float]]:
    """Rewards of each prompt's completions; without those that are masked or lack the reward.

    Args:
        samples: completions of the held-out prompts.
        reward: name of the reward function; the first one by default.
    """
    found: dict[str, list[float]] = {}
    for sample in samples:
        value = _reward(sample, reward)
        if value is not None:
            found.setdefault(sample.prompt_id, []).append(value)
    return found


def mean_figures(
    name: str, rewards: Mapping[str, Sequence[float]], figure: Callable[[Sequence[float]], float]
) -> dict[str, float]:
    """Mean over prompts of a figure of each prompt's rewards, and its 95 % interval.

    Returns:
        <name>, <name>_low and <name>_high; nan where there are no prompts.
    """
    values = [figure(found) for found in rewards.values()]
    low, high = mean_interval(values)
    mean = sum(values) / len(values) if values else math.nan
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def share_right(threshold: float) -> Callable[[Sequence[float]], float]:
    """Share of a prompt's rewards that reach a threshold, as a function of them."""
    return lambda rewards: sum(value >= threshold for value in rewards) / len(rewards)


def _reward(sample: ScoredSample, name: str | None) -> float | None:
    if sample.score.reward is None:
        return None
    for named in sample.score.rewards:
        if name in (None, named.name):
            return named.reward
    return None
