"""Attention of many rows over one copy of their prompt's keys and values.

    softmax([q K_prompt, q K_own]) [V_prompt; V_own]

All rows of a group read the prompt in one matrix product, where a cache for each row would be read
row by row: that is what a decode step spends its time on when prompts are long (Hydragen, arXiv
2402.05099). mlx-lm's models call the `scaled_dot_product_attention` that their module imported;
`hook_attention` puts a function in its place that sends rows with a shared prompt here, and all
else where it went.
"""

import sys
from collections.abc import Sequence
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models import base

from protocol.policy import LanguageModel

_NAME = "scaled_dot_product_attention"
Shared = tuple[mx.array, mx.array]
"""[heads, P, D] keys and values of a prompt."""


def attention(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    parts: Sequence[tuple[int, Shared | None]],
    *,
    scale: float,
    mask: mx.array | None,
) -> mx.array:
    """Give [B, query heads, 1, D].

    Args:
        queries: [B, query heads, 1, D].
        keys: [B, heads, T, D] the rows' own; query heads are a multiple of heads.
        values: [B, heads, T, D].
        parts: (rows, their prompt or None), in the order of the rows.
        scale: of the scores.
        mask: [B, 1, 1, T] False where a row has no token; None where all have all.
    """
    B, num_queries, _, D = queries.shape
    heads = keys.shape[1]
    queries_BHRD = (queries * scale).reshape(B, heads, num_queries // heads, D)
    own_BHRT = queries_BHRD @ keys.swapaxes(-1, -2)
    if mask is not None:
        own_BHRT = mx.where(mask, own_BHRT, mx.finfo(own_BHRT.dtype).min)
    outputs: list[mx.array] = []
    start = 0
    for count, shared in parts:
        rows = slice(start, start + count)
        if shared is None:
            outputs.append(mx.softmax(own_BHRT[rows], axis=-1, precise=True) @ values[rows])
        else:
            outputs.append(_over_both(queries_BHRD[rows], own_BHRT[rows], values[rows], shared))
        start += count
    output = outputs[0] if len(outputs) == 1 else mx.concatenate(outputs)
    return output.reshape(B, num_queries, 1, -1)


def _over_both(
    queries_NHRD: mx.array, own_NHRT: mx.array, values: mx.array, shared: Shared
) -> mx.array:
    keys_HPD, values_HPD = shared
    N, H, R, D = queries_NHRD.shape
    queries_HND = queries_NHRD.swapaxes(0, 1).reshape(H, N * R, D)
    scores_HNP = queries_HND @ keys_HPD.swapaxes(-1, -2)
    P = scores_HNP.shape[-1]
    scores_NHRP = scores_HNP.reshape(H, N, R, P).swapaxes(0, 1)
    weights = mx.softmax(mx.concatenate([scores_NHRP, own_NHRT], axis=-1), axis=-1, precise=True)
    weights_HNP = weights[..., :P].swapaxes(0, 1).reshape(H, N * R, P)
    of_prompt = (weights_HNP @ values_HPD).reshape(H, N, R, -1).swapaxes(0, 1)
    return of_prompt + weights[..., P:] @ values


def hook_attention(model: LanguageModel) -> None:
    """Let the attention of this model's modules know shared prompts; once a module is enough."""
    for module in cast(nn.Module, model).modules():
        source = sys.modules[type(module).__module__]
        if getattr(source, _NAME, None) is base.scaled_dot_product_attention:
            setattr(source, _NAME, _attend)


def _attend(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    cache: Any = None,  # noqa: ANN401
    scale: float = 1.0,
    mask: Any = None,  # noqa: ANN401
    sinks: mx.array | None = None,
) -> mx.array:
    if getattr(cache, "shares_prompts", False):
        assert sinks is None, "attention sinks are not known to shared prompts"
        return cache.attend(queries, keys, values, scale)
    return base.scaled_dot_product_attention(queries, keys, values, cache, scale, mask, sinks)
