"""Share of held-out completions with full reward."""

from collections.abc import Sequence

from learner.evaluator import evaluator
from learner.samples import ScoredSample


@evaluator("accuracy")
def accuracy(
    samples: Sequence[ScoredSample], *, reward: str | None = None, threshold: float = 1.0
) -> dict[str, float]:
    """Share of the completions whose reward reaches a threshold.

    Args:
        samples: greedy completions of the held-out prompts.
        reward: name of the reward function that decides; the first one by default.
        threshold: the reward of a right answer.

    Returns:
        accuracy: over the completions that have the reward; nan where none has.
    """
    rewards = [value for sample in samples if (value := _reward(sample, reward)) is not None]
    right = sum(value >= threshold for value in rewards)
    return {"accuracy": right / len(rewards) if rewards else float("nan"), "n": len(rewards)}


def _reward(sample: ScoredSample, name: str | None) -> float | None:
    if sample.score.reward is None:
        return None
    for named in sample.score.rewards:
        if name in (None, named.name):
            return named.reward
    return None
