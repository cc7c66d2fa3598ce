"""What the engine needs of the rows that it decodes together; they differ in how KV is kept."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import mlx.core as mx

from actors.batches.prompts import Prompts

CACHE_GROWTH_TOKENS = 256
"""By which mlx-lm's caches grow."""


class Need(NamedTuple):
    """Rows of one prompt, at their longest."""

    prompt_tokens: int
    completion_tokens: int
    rows: int


class Batch(Protocol):
    """Rows, each with the keys and values of all its tokens but the newest."""

    prompts_together: bool
    """Prompts of one length can be computed in one pass."""

    def open(self, num_prompts: int) -> list[Any]:
        """Empty caches, one a layer, for so many prompts of one length."""
        ...

    def join(self, prompts: Prompts, prompt_of_row: list[int]) -> None:
        """Append rows; each begins with a copy of the prompt that it names."""
        ...

    def keep(self, indices: list[int]) -> None:
        """Keep only these rows, in this order."""
        ...

    def logits(self, tokens_B: mx.array) -> mx.array:
        """[B, V] fp32 after each row's newest token, which enters the caches; not evaluated."""
        ...

    def tokens_to_hold(self, needs: Sequence[Need]) -> int:
        """Tokens for whose keys and values there has to be room, in a batch of all these rows."""
        ...

    @property
    def bytes_per_token(self) -> float | None:
        """Of keys and values of all layers; None while it is not known."""
        ...
