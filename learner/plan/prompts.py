"""How long a run's prompts are; loads the tokenizer, not the model."""

import asyncio
from dataclasses import dataclass
from typing import Any

from learner.data.prompts import Prompts, read_prompts, tokenize_prompts
from learner.data.sources import Row
from protocol.config import RunConfig

MAX_TOKENIZED = 4096
"""Prompts of each split that are tokenized; with more, every so many of them."""


@dataclass(frozen=True)
class PromptLengths:
    """Lengths in tokens."""

    longest: int
    mean: float
    """Of the training prompts."""
    num_heldout: int


def prompt_lengths(config: RunConfig, tokenizer: Any) -> PromptLengths:  # noqa: ANN401
    """Tokenize a run's prompts, or as many as tell enough.

    Raises:
        DataError: a row that cannot be used.
    """
    prompts: Prompts = asyncio.run(read_prompts(config.data, config.run.seed))

    def lengths(rows: list[Row]) -> list[int]:
        some = rows[:: max(1, len(rows) // MAX_TOKENIZED)]
        found = tokenize_prompts(some, tokenizer, config.data.max_prompt_tokens)
        return [len(prompt.prompt_ids) for prompt in found]

    train = lengths(prompts.train)
    heldout = lengths(prompts.heldout)
    return PromptLengths(max([*train, *heldout]), sum(train) / len(train), len(prompts.heldout))
