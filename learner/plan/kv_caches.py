"""How many completions one actor decodes at once, and the keys and values that they keep.

A row has a place of its own, which grows with it. A group's prompt, where it is long, is kept once
for all its rows, and else copied to each row's place. The token that a row got last is in no cache.
"""

from bisect import bisect_right
from dataclasses import dataclass

from learner.plan.shape import ModelShape
from learner.plan.work import Work
from protocol.config import RunConfig

GROWTH_TOKENS = 64
"""By which rows' places grow; actors/batches/rows.py has the same number."""
PROMPT_GROWTH_TOKENS = 256
"""By which mlx-lm's caches grow, in which prompts are computed and kept."""
SHARED_PROMPT_TOKENS = 128
"""Computed prompt tokens from which on a group keeps them once; as in actors/batches/rows.py."""


@dataclass(frozen=True)
class Decoded:
    """The largest batch that an actor decodes."""

    rows: int
    cache_bytes: int
    """Keys and values of all of it, at the longest."""


def largest_batch(shape: ModelShape, config: RunConfig, work: Work, compute_bytes: int) -> Decoded:
    """What may be in flight, or the held-out prompts, as far as the actor's bounds let them in."""
    section = config.learner
    group = config.generation.group_size
    in_flight = section.groups_per_step * (section.max_off_policy_steps + 1) * group

    def batch(wanted: int, samples: int) -> Decoded:
        rows = min(wanted, max_rows(shape, config, work, compute_bytes, samples))
        return Decoded(rows, cache_bytes(shape, config, work, rows, samples, compute_bytes))

    return max(batch(in_flight, group), batch(work.num_heldout, 1), key=lambda it: it.cache_bytes)


def max_rows(
    shape: ModelShape, config: RunConfig, work: Work, compute_bytes: int, samples: int
) -> int:
    """Completions that an actor lets in; at least one, whatever its bounds.

    It lets in what finds room at its longest (actors/entrance.py); a deterministic run decodes the
    completions of one prompt, all of them and no others.

    Args:
        shape: the model's.
        config: its max_sequences and max_kv_bytes.
        work: the lengths; each completion counts as one that gets as long as it may.
        compute_bytes: of a number in a cache.
        samples: completions of one prompt.
    """
    if config.run.deterministic:
        return samples
    rows, limit = config.generation.max_sequences, config.generation.max_kv_bytes
    if not limit:
        return rows

    def held(rows: int) -> int:
        return cache_bytes(shape, config, work, rows, samples, compute_bytes)

    return max(1, bisect_right(range(rows + 1), limit, key=held) - 1)


def cache_bytes(
    shape: ModelShape, config: RunConfig, work: Work, rows: int, samples: int, compute_bytes: int
) -> int:
    """Keys and values of so many completions, so many to a prompt, all at their longest."""
    prompt, completion = work.prompt_tokens, config.generation.max_completion_tokens
    if shares_prompts(config, work, compute_bytes):
        tokens = -(-rows // samples) * _grown(prompt - 1, PROMPT_GROWTH_TOKENS)
        tokens += rows * _grown(completion, GROWTH_TOKENS)
    else:
        tokens = rows * _grown(prompt - 1 + completion, GROWTH_TOKENS)
    return tokens * _token_bytes(shape, compute_bytes)


def shares_prompts(config: RunConfig, work: Work, compute_bytes: int) -> bool:
    """Whether a group keeps its prompt once: a long one, in fp32, that is never computed again."""
    long = work.prompt_tokens > SHARED_PROMPT_TOKENS
    again = config.generation.recompute_kv_cache_after_weight_updates
    return long and compute_bytes == 4 and not again


def _token_bytes(shape: ModelShape, compute_bytes: int) -> int:
    return 2 * shape.num_layers * shape.kv_size * compute_bytes


def _grown(tokens: int, step: int) -> int:
    return -(-tokens // step) * step
