"""Rows that each have a place of their own for keys and values; long prompts are kept once.

For models whose every layer keeps plain keys and values. A row's tokens begin at 0 in its own
place, whenever it joined, so that rows join and leave without moving others. Where
`shared_prompt_tokens` allows, the rows of a group read its prompt from one copy
(actors/batches/shared_prompts.py), and their own place holds completions only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models.cache import KVCache, make_prompt_cache
from numpy.typing import NDArray

from actors.batches.batch import CACHE_GROWTH_TOKENS, Need
from actors.batches.prompts import Prompts
from actors.batches.shared_prompts import attention, hook_attention
from protocol.policy import LanguageModel, logits

GROWTH_TOKENS = 64
"""The rows' places grow by so many tokens at a time."""
SHARED_PROMPT_TOKENS = 128
"""Shorter prompts are copied to each row: sharing would cost more in small steps than it saves."""


def keeps_plain_keys_and_values(model: LanguageModel) -> bool:
    """Whether every layer of the model has mlx-lm's plain cache."""
    return all(type(cache) is KVCache for cache in make_prompt_cache(cast(nn.Module, model)))


@dataclass(frozen=True)
class Segment:
    """Neighbouring rows that read the same shared prompt, or none."""

    prompts: Prompts | None
    """None: these rows hold all their tokens themselves."""
    prompt: int
    count: int


class Layout:
    """What is the same in every layer: how many tokens each row holds, and which prompt.

    Attributes:
        segments: of all rows, in order.
        lengths_B: tokens in each row's own place.
        shared_B: tokens that each row reads from a shared prompt.
    """

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.lengths_B: NDArray[np.int32] = np.zeros(0, np.int32)
        self.shared_B: NDArray[np.int32] = np.zeros(0, np.int32)
        self.arrange()

    def arrange(self) -> None:
        """Work out what the next forward pass needs; to be called after every change."""
        lengths, rows = self.lengths_B, len(self.lengths_B)
        self.offsets_B = mx.array(lengths + self.shared_B)
        self.positions_B = mx.array(lengths)
        self.rows_B = mx.arange(rows)
        self.width = int(lengths.max()) + 1 if rows else 0
        self.is_even = rows > 0 and int(lengths.min()) + 1 == self.width
        self.mask: mx.array | None = None
        if not self.is_even:
            self.mask = (mx.arange(self.width)[None] <= self.positions_B[:, None])[:, None, None]

    def join(self, prompts: Prompts, prompt_of_row: list[int], *, is_shared: bool) -> None:
        """Append rows that begin with these prompts."""
        count, tokens = len(prompt_of_row), prompts.num_tokens
        own, shared = (0, tokens) if is_shared else (tokens, 0)
        for index in prompt_of_row:
            self._append(*((prompts, index) if is_shared else (None, 0)))
        self.lengths_B = np.append(self.lengths_B, np.full(count, own, np.int32))
        self.shared_B = np.append(self.shared_B, np.full(count, shared, np.int32))
        self.arrange()

    def keep(self, indices: NDArray[np.intp]) -> None:
        """Keep only these rows."""
        of_row = [segment for segment in self.segments for _ in range(segment.count)]
        self.segments = []
        for index in indices:
            kept = of_row[index]
            self._append(kept.prompts, kept.prompt)
        self.lengths_B, self.shared_B = self.lengths_B[indices], self.shared_B[indices]
        self.arrange()

    def advance(self) -> None:
        """Every row has got one more token."""
        self.lengths_B = self.lengths_B + np.int32(1)
        self.arrange()

    def _append(self, prompts: Prompts | None, prompt: int) -> None:
        count = 1
        if self.segments:
            last = self.segments[-1]
            if last.prompts is prompts and last.prompt == prompt:
                count += last.count
                self.segments.pop()
        self.segments.append(Segment(prompts, prompt, count))


class RowCache:
    """One layer's keys and values of all rows, as mlx-lm's models use a cache."""

    def __init__(self, layer: int, layout: Layout) -> None:
        self._layer = layer
        self._layout = layout
        self.keys: mx.array | None = None
        """[B, heads, capacity, D]; None before the first token."""
        self.values: mx.array | None = None

    @property
    def offset(self) -> mx.array:
        """[B] the position of each row's next token, for rotary embeddings."""
        return self._layout.offsets_B

    def make_mask(
        self, N: int, return_array: bool = False, window_size: int | None = None
    ) -> mx.array | None:
        """Which of its own tokens a row may attend to; None for all."""
        assert N == 1, "rows are decoded token by token"
        assert window_size is None, "a cache with a window is no plain one"
        mask = self._layout.mask
        if mask is None and return_array:
            return mx.ones((1, 1, 1, self._layout.width), mx.bool_)
        return mask

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Take each row's newest token; returns [B, heads, width, D] of its own ones."""
        layout = self._layout
        self._reserve(keys, values)
        assert self.keys is not None
        assert self.values is not None
        if layout.is_even:
            self.keys[:, :, layout.width - 1 : layout.width] = keys
            self.values[:, :, layout.width - 1 : layout.width] = values
        else:
            self.keys[layout.rows_B, :, layout.positions_B] = keys[:, :, 0]
            self.values[layout.rows_B, :, layout.positions_B] = values[:, :, 0]
        return self.keys[:, :, : layout.width], self.values[:, :, : layout.width]

    def attend(self, queries: mx.array, keys: mx.array, values: mx.array, scale: float) -> mx.array:
        """Attention over the shared prompts and the rows' own tokens."""
        parts = [
            (segment.count, segment.prompts and self._shared(segment.prompts, segment.prompt))
            for segment in self._layout.segments
        ]
        return attention(queries, keys, values, parts, scale=scale, mask=self._layout.mask)

    @property
    def shares_prompts(self) -> bool:
        """Some row reads its prompt from a shared copy."""
        return bool(self._layout.shared_B.any())

    def join(self, keys: mx.array | None, values: mx.array | None, count: int) -> None:
        """Append rows whose own places begin with these tokens (None: they are empty)."""
        if keys is None or values is None:
            if self.keys is not None and self.values is not None:
                self.keys, self.values = (
                    mx.concatenate([held, _zeros(held, count, held.shape[2])])
                    for held in (self.keys, self.values)
                )
            return
        if self.keys is None or self.values is None:
            before = len(self._layout.lengths_B)
            self.keys, self.values = (_zeros(new, before, 0) for new in (keys, values))
        capacity = max(self.keys.shape[2], keys.shape[2])
        both = ((self.keys, keys), (self.values, values))
        self.keys, self.values = (
            mx.concatenate([_widened(held, capacity), _widened(new, capacity)])
            for held, new in both
        )

    def keep(self, indices: mx.array) -> None:
        """Keep only these rows; a row that was longer than they are leaves no place behind."""
        if self.keys is not None and self.values is not None:
            capacity = _rounded_up(self._layout.width, GROWTH_TOKENS)
            self.keys = self.keys[:, :, :capacity][indices]
            self.values = self.values[:, :, :capacity][indices]

    def _reserve(self, keys: mx.array, values: mx.array) -> None:
        """Make room for one more token."""
        width = self._layout.width
        if self.keys is None or self.values is None:
            self.keys, self.values = (_zeros(new, len(new), 0) for new in (keys, values))
        if self.keys.shape[2] < width:
            capacity = _rounded_up(width, GROWTH_TOKENS)
            self.keys, self.values = (_widened(held, capacity) for held in (self.keys, self.values))

    def _shared(self, prompts: Prompts, prompt: int) -> tuple[mx.array, mx.array]:
        keys, values = prompts.caches[self._layer].keys_and_values()
        return keys[prompt], values[prompt]


class Rows:
    """A batch of rows with places of their own.

    Args:
        model: `keeps_plain_keys_and_values`.
        shared_prompt_tokens: prompts of at least so many tokens are kept once for all their rows;
            None copies every prompt to each row.
    """

    prompts_together = True

    def __init__(
        self, model: LanguageModel, shared_prompt_tokens: int | None = SHARED_PROMPT_TOKENS
    ) -> None:
        if shared_prompt_tokens is not None:
            hook_attention(model)
        self._model = model
        self._shared_prompt_tokens = shared_prompt_tokens
        self._layout = Layout()
        num_layers = len(self.open(1))
        self._caches = [RowCache(layer, self._layout) for layer in range(num_layers)]

    def open(self, num_prompts: int) -> list[Any]:
        """Empty caches; plain ones take any number of prompts of one length."""
        del num_prompts
        return make_prompt_cache(cast(nn.Module, self._model))

    def join(self, prompts: Prompts, prompt_of_row: list[int]) -> None:
        """Append rows; each begins with the prompt that it names."""
        is_shared, of_row = self._shares(prompts.num_tokens), mx.array(prompt_of_row)
        for cache, source in zip(self._caches, prompts.caches, strict=True):
            if not prompts.num_tokens:
                cache.join(None, None, len(prompt_of_row))
                continue
            keys, values = source.keys_and_values()
            if is_shared:  # it stays for long: without the room that it grew in
                source.keys, source.values = mx.contiguous(keys), mx.contiguous(values)
                cache.join(None, None, len(prompt_of_row))
            else:
                cache.join(keys[of_row], values[of_row], len(prompt_of_row))
        self._layout.join(prompts, prompt_of_row, is_shared=is_shared)

    def keep(self, indices: list[int]) -> None:
        """Keep only these rows; the places shrink back when none is left."""
        self._layout.keep(np.array(indices, np.intp))
        kept = mx.array(indices, dtype=mx.int32)
        for cache in self._caches:
            if indices:
                cache.keep(kept)
            else:
                cache.keys = cache.values = None

    def logits(self, tokens_B: mx.array) -> mx.array:
        """[B, V] fp32 after each row's newest token; not evaluated."""
        logits_BV = logits(self._model, tokens_B[:, None], cast("list[Any]", self._caches))[:, -1]
        self._layout.advance()
        return logits_BV

    def tokens_to_hold(self, needs: Sequence[Need]) -> int:
        """Tokens to make room for: every row's place is as long as the longest row."""
        rows = longest = of_prompts = 0
        for need in needs:
            prompt = need.prompt_tokens - 1  # the token that a row got last is in no cache
            is_shared = self._shares(prompt)
            own = need.completion_tokens + (0 if is_shared else prompt)
            rows, longest = rows + need.rows, max(longest, own)
            if is_shared:
                of_prompts += _rounded_up(prompt, CACHE_GROWTH_TOKENS)
        return rows * _rounded_up(longest, GROWTH_TOKENS) + of_prompts

    @property
    def bytes_per_token(self) -> float | None:
        """Of keys and values of all layers; None before the first token."""
        held = [array for c in self._caches for array in (c.keys, c.values) if array is not None]
        if not all(array.shape[2] for array in held):
            return None
        return sum(array.nbytes / (array.shape[0] * array.shape[2]) for array in held) or None

    def _shares(self, num_tokens: int) -> bool:
        least = self._shared_prompt_tokens
        return least is not None and num_tokens >= max(1, least)


def _rounded_up(tokens: int, step: int) -> int:
    return -(-tokens // step) * step


def _zeros(like: mx.array, rows: int, tokens: int) -> mx.array:
    return mx.zeros((rows, like.shape[1], tokens, like.shape[3]), like.dtype)


def _widened(array: mx.array, capacity: int) -> mx.array:
    """[B, heads, capacity, D], with zeros behind what is there."""
    missing = capacity - array.shape[2]
    if not missing:
        return array
    return mx.concatenate([array, _zeros(array, array.shape[0], missing)], axis=2)
