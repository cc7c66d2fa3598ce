"""Scored completions -> padded arrays, in microbatches of similar lengths under a token budget."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from learner.samples import ScoredSample

PAD_MULTIPLE = 16
"""Lengths are rounded up to this, so that few shapes occur."""


@dataclass(frozen=True)
class Microbatch:
    """Rows that go through the model together; column t predicts the token after position t."""

    indices: tuple[int, ...]
    """Which samples of the batch the rows are."""
    inputs_BT: mx.array
    """[B, T] prompt and completion without its last token, padded on the right."""
    targets_BT: mx.array
    """[B, T] the token that follows each input."""
    behaviour_logprobs_BT: mx.array
    """[B, T] nats; 0 outside the mask."""
    advantages_BT: mx.array
    """[B, T]; 0 outside the mask."""
    mask_BT: mx.array
    """[B, T] True where the target is a completion token."""
    starts: tuple[int, ...]
    """Column of each row's first completion token."""


def microbatches(
    samples: Sequence[ScoredSample], advantages: NDArray[np.float32], token_budget: int
) -> list[Microbatch]:
    """All samples whose reward is not masked, grouped by length; each microbatch fits the budget.

    Padding is on the right: with causal attention it reaches no completion token.

    Args:
        samples: the whole batch.
        advantages: [B] or [B, T] (completion token t in column t), in the order of `samples`.
        token_budget: padded tokens of one microbatch; a longer single sample gets its own.
    """
    kept = [i for i, sample in enumerate(samples) if sample.score.reward is not None]
    kept.sort(key=lambda i: (_width(samples[i]), i))
    groups: list[list[int]] = []
    for index in kept:
        fits = groups and (len(groups[-1]) + 1) * _width(samples[index]) <= token_budget
        if fits:
            groups[-1].append(index)
        else:
            groups.append([index])
    return [_microbatch(samples, advantages, indices) for indices in groups]


def _width(sample: ScoredSample) -> int:
    tokens = len(sample.prompt_ids) + len(sample.rollout.token_ids) - 1
    return -(-tokens // PAD_MULTIPLE) * PAD_MULTIPLE


def _microbatch(
    samples: Sequence[ScoredSample], advantages: NDArray[np.float32], indices: list[int]
) -> Microbatch:
    width = max(_width(samples[i]) for i in indices)
    shape = (len(indices), width)
    inputs, targets = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    behaviour, weights = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    mask = np.zeros(shape, np.bool_)
    starts: list[int] = []
    for row, index in enumerate(indices):
        sample = samples[index]
        tokens = np.concatenate([sample.prompt_ids, sample.rollout.token_ids])
        start, end = len(sample.prompt_ids) - 1, len(tokens) - 1
        inputs[row, :end], targets[row, :end] = tokens[:-1], tokens[1:]
        behaviour[row, start:end] = sample.rollout.behaviour_logprobs
        by_token = advantages[index] if advantages.ndim == 1 else advantages[index, : end - start]
        weights[row, start:end] = by_token
        mask[row, start:end] = True
        starts.append(start)
    return Microbatch(
        tuple(indices),
        mx.array(inputs),
        mx.array(targets),
        mx.array(behaviour),
        mx.array(weights),
        mx.array(cast(Any, mask)),  # mlx does not declare numpy booleans
        tuple(starts),
    )
