"""Two evaluations of the same prompts, paired."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from learner.confidence import paired_p_value
from protocol.errors import ConfigError


@dataclass(frozen=True)
class Comparison:
    """What one model does better than another, prompt by prompt."""

    num_prompts: int
    """That both have a score of."""
    num_left_out: int
    """That only one of them has a score of."""
    first: float
    """Mean reward of the first model, over these prompts."""
    second: float
    better: int
    """Prompts on which the second model has the higher mean reward."""
    worse: int
    p_value: float
    """Two-sided: how often a difference like this one comes by chance alone."""


def prompt_rewards(samples_file: Path) -> dict[str, float]:
    """Mean reward of each prompt, over its samples that have one.

    Args:
        samples_file: `evaluations/step_*/<evaluator>.jsonl` of a run folder.

    Raises:
        ConfigError: there is no such file, or it holds something else.
    """
    found: dict[str, list[float]] = {}
    try:
        for line in samples_file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["reward"] is not None:
                found.setdefault(row["prompt_id"], []).append(float(row["reward"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"cannot read the samples of {samples_file}: {error}") from None
    return {prompt: sum(rewards) / len(rewards) for prompt, rewards in found.items()}


def compare(first: Mapping[str, float], second: Mapping[str, float]) -> Comparison:
    """Compare two models by their rewards on the same prompts.

    Args:
        first: mean reward by prompt.
        second: the same of the other model.

    Raises:
        ConfigError: they share no prompt.
    """
    shared = sorted(first.keys() & second.keys())
    if not shared:
        raise ConfigError("the two evaluations share no prompt: give both the same --data")
    one, other = [first[prompt] for prompt in shared], [second[prompt] for prompt in shared]
    return Comparison(
        num_prompts=len(shared),
        num_left_out=len(first.keys() ^ second.keys()),
        first=sum(one) / len(one),
        second=sum(other) / len(other),
        better=sum(b > a for a, b in zip(one, other, strict=True)),
        worse=sum(b < a for a, b in zip(one, other, strict=True)),
        p_value=paired_p_value(one, other),
    )
