"""pass@k of HumanEval's programming problems, each tested in the sandbox."""

from collections.abc import Sequence

from learner.evaluator import evaluator
from learner.evaluators.pass_at_k import Ks, check_k, pass_at_k
from learner.samples import ScoredSample


@evaluator(
    "human_eval",
    data=("human_eval?chat=1",),
    rewards=({"name": "code_execution", "reward": "all"},),
    check=check_k,
)
def human_eval(
    samples: Sequence[ScoredSample],
    *,
    k: Ks = [1],  # noqa: B006 - never changed
) -> dict[str, float]:
    """Estimate of pass@k: a completion passes whose code passes all tests of its problem.

    Args:
        samples: completions, at least k of each problem.
        k: how many completions one has.

    Returns:
        As pass_at_k.
    """
    return pass_at_k(samples, k=k)
