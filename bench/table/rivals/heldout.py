"""Accuracy on held-out additions of weights that a run left behind, and when it was reached.

After the run and outside its time, by one and the same code for all sides.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

SOURCE = "arithmetic:add2?count=1024"
MAX_ANSWER_TOKENS = 4
MAX_PROMPT_TOKENS = 64


class HeldOut:
    """The held-out prompts, and a model to hold weights; imports mlx."""

    def __init__(self, folder: Path) -> None:
        """Args: the model's folder."""
        import asyncio

        from protocol.blas import preload_blas

        preload_blas()
        from mlx_lm import load

        from learner.data.prompts import tokenize_prompts
        from learner.data.sources import read_source

        loaded: Any = load(str(folder))
        self._model, tokenizer = loaded[0], loaded[1]
        rows = asyncio.run(read_source(SOURCE, "heldout", "prompt"))
        self._by_length: dict[int, list[tuple[list[int], list[int]]]] = {}
        for prompt in tokenize_prompts(rows, tokenizer, MAX_PROMPT_TOKENS):
            ids = list(prompt.prompt_ids)
            answer = tokenizer.encode(str(prompt.row.columns["answer"]), add_special_tokens=False)
            wanted = [*answer, tokenizer.eos_token_id]
            self._by_length.setdefault(len(ids), []).append((ids, wanted))

    def accuracy(self, weights: Path) -> float:
        """Share of answers that greedy decoding gets right, the end included."""
        self._model.load_weights(str(weights))
        right = sum(self._right(rows) for rows in self._by_length.values())
        return right / sum(map(len, self._by_length.values()))

    def _right(self, rows: list[tuple[list[int], list[int]]]) -> int:
        import mlx.core as mx

        tokens = mx.array([prompt for prompt, _ in rows])
        start = tokens.shape[1]
        for _ in range(MAX_ANSWER_TOKENS):
            following = self._model(tokens)[:, -1].argmax(axis=-1)
            tokens = mx.concatenate([tokens, following[:, None].astype(tokens.dtype)], axis=1)
        found: Any = tokens[:, start:].tolist()
        return sum(
            made[: len(wanted)] == wanted for made, (_, wanted) in zip(found, rows, strict=True)
        )


def crossing(points: Sequence[tuple[float, float]], threshold: float) -> float:
    """When a curve of (seconds, accuracy) first reaches a threshold, straight between its points.

    Raises:
        ValueError: it never does.
    """
    for (t0, a0), (t1, a1) in pairwise(points):
        if a0 < threshold <= a1:
            return t0 + (t1 - t0) * (threshold - a0) / (a1 - a0)
    raise ValueError(f"{threshold} is not crossed by {[round(a, 3) for _, a in points]}")
