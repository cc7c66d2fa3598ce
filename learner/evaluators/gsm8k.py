"""Share of GSM8K's kind of problems whose last number is the reference answer's."""

from collections.abc import Sequence

from learner.evaluator import evaluator
from learner.evaluators.accuracy import accuracy
from learner.samples import ScoredSample


@evaluator("gsm8k", rewards=({"name": "numeric_match"},))
def gsm8k(samples: Sequence[ScoredSample]) -> dict[str, float]:
    """Share of the completions whose last number is what stands after `####` in the answer.

    Args:
        samples: completions of rows with a column `answer`; another column, or math_verify, is
            for the evaluator's `rewards` to say.

    Returns:
        As accuracy.
    """
    return accuracy(samples)
