"""Write your own reward.

A reward is a plain function. It is called by keyword with lists, one entry a completion, and says
one number for each. Name it in YAML by file and function; nothing else changes:

    rewards:
      - {name: "docs/tutorials/your_own_reward.py:close_enough", weight: 1.0, tolerance: 10}

Try it (20 s), from the checkout:

    .venv/bin/mlx-train --config configs/quickstart.yaml --set run.name=own_reward \
        --set run.max_steps=10 --set evaluation.interval=0 \
        --set 'rewards=[{name: "docs/tutorials/your_own_reward.py:close_enough", tolerance: 10}]'

What the function may ask for, by the names of its arguments:

- `completions` (texts), `prompts`, `completion_tokens`, `finish_reason`: of each completion;
- any column of the data row, here `answer`: without a default it is required, and a row that lacks
  it masks its samples, with a status that says so;
- `**columns`: all columns that are not named;
- after `*`: parameters, which the config sets. Their annotations are checked before the run starts.

What it says: a number; None where it does not apply (the others' weights stand alone then); or
`Judged(reward, status, facts)` of reward_workers/registry.py, for figures that metrics.jsonl should
show.

What it need not fear: it runs in a process of its own, without network, and is killed when it
hangs. An exception masks the samples it was called with (status `reward_error`), and is never a
reward of 0. It may not compare the completions of one call: they come in batches of any size.
"""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field


def close_enough(
    completions: Sequence[str],
    answer: Sequence[str],
    *,
    tolerance: Annotated[float, Field(gt=0)] = 5.0,
    **columns: object,
) -> list[float]:
    """1 for the right number, falling to 0 at a distance of `tolerance`; 0 for no number.

    Args:
        completions: texts.
        answer: the reference answers, decimal numbers.
        tolerance: in the numbers' own unit.
        columns: not looked at.
    """
    return [
        _closeness(completion, float(right), tolerance)
        for completion, right in zip(completions, answer, strict=True)
    ]


def _closeness(completion: str, right: float, tolerance: float) -> float:
    try:
        distance = abs(float(completion.strip()) - right)
    except ValueError:
        return 0.0
    return max(0.0, 1.0 - distance / tolerance)
