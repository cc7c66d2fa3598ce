"""Mean of what a reasoning_gym task's own scorer says."""

from collections.abc import Sequence

from learner.evaluator import evaluator
from learner.evaluators._by_prompt import mean_figures, rewards_by_prompt, share_right
from learner.samples import ScoredSample


@evaluator("reasoning_gym", rewards=({"name": "reasoning_gym"},))
def reasoning_gym(samples: Sequence[ScoredSample]) -> dict[str, float]:
    """Mean score, which may give half a point for half an answer, and share of full scores.

    Args:
        samples: completions of `reasoning_gym:<task>` rows.

    Returns:
        score: mean over a prompt's completions, then over prompts.
        solved: the same of completions with a score of 1.
        score_low, score_high, solved_low, solved_high: their 95 % intervals.
        n: prompts with a completion that was scored.
    """
    found = rewards_by_prompt(samples)
    return {
        **mean_figures("score", found, lambda rewards: sum(rewards) / len(rewards)),
        **mean_figures("solved", found, share_right(1.0)),
        "n": len(found),
    }
