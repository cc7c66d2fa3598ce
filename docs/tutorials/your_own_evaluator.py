"""Write your own evaluator.

An evaluator is a plain function: the scored completions of all held-out prompts in, figures out.
Its figures stand in eval.jsonl, on the run page and in the trackers. Name it in YAML by file and
function:

    evaluation:
      evaluators:
        - {name: accuracy}
        - {name: "docs/tutorials/your_own_evaluator.py:majority", num_samples: 5, temperature: 1.0}

Try it (20 s), from the checkout:

    .venv/bin/mlx-train --config configs/quickstart.yaml --set run.name=own_evaluator \
        --set run.max_steps=5 --set 'data.heldout=["arithmetic:add2?count=64"]' --set \
        'evaluation={evaluators: [{name: "docs/tutorials/your_own_evaluator.py:majority",
        num_samples: 5, temperature: 1.0}]}'

`num_samples` and `temperature` are the framework's: they say how many completions of each prompt
the actors make. Arguments after the first are your own, and the config sets them. A sample
(learner/samples.py) has `prompt_id`, `prompt`, `rollout.completion` and its tokens, `score.reward`
(None where the sample is masked) and `score.rewards` by reward function.
"""

from collections import Counter
from collections.abc import Sequence

from learner.samples import ScoredSample


def majority(samples: Sequence[ScoredSample], *, threshold: float = 1.0) -> dict[str, float]:
    """Share of the prompts whose most frequent completion is right (maj@k).

    Args:
        samples: completions of the held-out prompts, several of each.
        threshold: the reward of a right answer.

    Returns:
        majority: over the prompts with a sample that has a reward; nan where there is none.
        agreement: mean share of a prompt's samples that say what most of them say.
    """
    by_prompt: dict[str, list[ScoredSample]] = {}
    for sample in samples:
        if sample.score.reward is not None:
            by_prompt.setdefault(sample.prompt_id, []).append(sample)
    if not by_prompt:
        return {"majority": float("nan"), "agreement": float("nan"), "n": 0}
    right, agreement = 0, 0.0
    for group in by_prompt.values():
        words = Counter(sample.rollout.completion.strip() for sample in group)
        winner, votes = words.most_common(1)[0]
        reward = next(s.score.reward for s in group if s.rollout.completion.strip() == winner)
        right += reward is not None and reward >= threshold
        agreement += votes / len(group)
    n = len(by_prompt)
    return {"majority": right / n, "agreement": agreement / n, "n": n}
