"""Rows in mlx-lm's own batch caches: for models whose layers slide, recur, convolve or compress."""

import copy
from collections.abc import Sequence
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import make_prompt_cache

from actors.batches.batch import CACHE_GROWTH_TOKENS, Need
from actors.batches.cache_bytes import bytes_per_token
from actors.batches.prompts import Prompts
from protocol.policy import LanguageModel, logits


class Merged:
    """A batch in which every row has a copy of its prompt, padded on the left.

    Args:
        model: its caches must support merging.
    """

    prompts_together = True

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._caches: list[Any] = []

    def open(self, num_prompts: int) -> list[Any]:
        """Empty caches of a batch of prompts."""
        layers = make_prompt_cache(cast(nn.Module, self._model))
        return [layer.merge([layer] * num_prompts) for layer in layers]

    def join(self, prompts: Prompts, prompt_of_row: list[int]) -> None:
        """Append rows; `filter` with repeated indices copies prompts."""
        of_row = mx.array(prompt_of_row)
        joining = copy.deepcopy(prompts.caches)  # other rows of these prompts may join later
        for cache in joining:
            cache.filter(of_row)
        if not self._caches:
            self._caches = joining
            return
        for held, new in zip(self._caches, joining, strict=True):
            held.extend(new)

    def keep(self, indices: list[int]) -> None:
        """Keep only these rows."""
        if not indices:
            self._caches = []
            return
        kept = mx.array(indices)
        for cache in self._caches:
            cache.filter(kept)

    def logits(self, tokens_B: mx.array) -> mx.array:
        """[B, V] fp32 after each row's newest token; not evaluated."""
        return logits(self._model, tokens_B[:, None], self._caches)[:, -1]

    def tokens_to_hold(self, needs: Sequence[Need]) -> int:
        """Tokens to make room for: every row is padded to the longest one."""
        longest = max(need.prompt_tokens + need.completion_tokens for need in needs)
        return sum(need.rows for need in needs) * (longest + CACHE_GROWTH_TOKENS)

    @property
    def bytes_per_token(self) -> float | None:
        """Of layers with keys and values; others do not grow. None before the first token."""
        return bytes_per_token(self._caches)
