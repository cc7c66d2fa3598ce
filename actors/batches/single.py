"""Rows that are decoded one by one: slow, and right for models that batches do not suit."""

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


class Single:
    """A batch that is none: every row has the model's own caches.

    Args:
        model: any that mlx-lm can generate with.
    """

    prompts_together = False

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._rows: list[list[Any]] = []

    def open(self, num_prompts: int) -> list[Any]:
        """Empty caches of one prompt."""
        assert num_prompts == 1
        return make_prompt_cache(cast(nn.Module, self._model))

    def join(self, prompts: Prompts, prompt_of_row: list[int]) -> None:
        """Append rows, each with a copy of the prompt."""
        self._rows += [copy.deepcopy(prompts.caches) for _ in prompt_of_row]

    def keep(self, indices: list[int]) -> None:
        """Keep only these rows."""
        self._rows = [self._rows[index] for index in indices]

    def logits(self, tokens_B: mx.array) -> mx.array:
        """[B, V] fp32 after each row's newest token; not evaluated."""
        return mx.concatenate(
            [
                logits(self._model, tokens_B[row : row + 1, None], caches)[:, -1]
                for row, caches in enumerate(self._rows)
            ]
        )

    def tokens_to_hold(self, needs: Sequence[Need]) -> int:
        """Tokens to make room for."""
        return sum(
            need.rows * (need.prompt_tokens + need.completion_tokens + CACHE_GROWTH_TOKENS)
            for need in needs
        )

    @property
    def bytes_per_token(self) -> float | None:
        """Of layers with keys and values; others do not grow. None before the first token."""
        return bytes_per_token(self._rows[0] if self._rows else [])
