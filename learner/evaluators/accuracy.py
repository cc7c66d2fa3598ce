"""Share of held-out completions with full reward."""

from collections.abc import Sequence

from learner.evaluator import evaluator
from learner.evaluators._by_prompt import mean_figures, rewards_by_prompt, share_right
from learner.samples import ScoredSample


@evaluator("accuracy")
def accuracy(
    samples: Sequence[ScoredSample], *, reward: str | None = None, threshold: float = 1.0
) -> dict[str, float]:
    """Share of the completions whose reward reaches a threshold (mean@k with k samples a prompt).

    Args:
        samples: completions of the held-out prompts.
        reward: name of the reward function that decides; the first one by default.
        threshold: the reward of a right answer.

    Returns:
        accuracy: mean over a prompt's completions that have the reward, then over prompts; nan
            where none has. accuracy_low, accuracy_high: its 95 % interval.
        n: prompts with such a completion.
    """
    found = rewards_by_prompt(samples, reward)
    return {**mean_figures("accuracy", found, share_right(threshold)), "n": len(found)}
