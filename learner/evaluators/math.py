"""Share of mathematical problems whose answer equals the reference answer as mathematics."""

from collections.abc import Sequence

from learner.evaluator import evaluator
from learner.evaluators.accuracy import accuracy
from learner.samples import ScoredSample


@evaluator("math", rewards=({"name": "math_verify"},))
def math(samples: Sequence[ScoredSample]) -> dict[str, float]:
    """Share of the completions that math-verify takes for right.

    Args:
        samples: completions of rows with a column `answer`.

    Returns:
        As accuracy.
    """
    return accuracy(samples)
