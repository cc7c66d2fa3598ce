"""How likely the policy finds reference texts; nothing is generated."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from learner.confidence import bootstrap_interval
from learner.evaluator import PolicyView, evaluator
from learner.exchange.prompt_book import PromptEntry
from protocol.errors import DataError

PART = 64
"""Texts that are looked at together; they go through the model in microbatches."""


@evaluator("perplexity", generates=False)
def perplexity(
    prompts: Sequence[PromptEntry], *, policy: PolicyView, column: str = "answer"
) -> dict[str, float]:
    """Perplexity of a text after its prompt, at temperature 1.

        exp(-sum of the logprobs of all tokens of all texts / their number)

    Args:
        prompts: rows with the text.
        policy: the learner's.
        column: data column with the text, or a number; tokenized apart from the prompt.

    Returns:
        perplexity: over tokens; perplexity_low, perplexity_high: its 95 % interval over prompts.
        tokens: of the texts.
        n: prompts.

    Raises:
        DataError: a row without the column, or with no text in it.
    """
    texts = [_tokens(prompt, column, policy) for prompt in prompts]
    sums: list[float] = []
    for first in range(0, len(texts), PART):
        part = slice(first, first + PART)
        found = policy.logprobs([prompt.prompt_ids for prompt in prompts[part]], texts[part])
        sums += [-float(np.sum(logprobs, dtype=np.float64)) for logprobs in found]
    lengths = [len(text) for text in texts]
    low, high = bootstrap_interval(sums, lengths)
    return {
        "perplexity": float(np.exp(sum(sums) / sum(lengths))),
        "perplexity_low": float(np.exp(low)),
        "perplexity_high": float(np.exp(high)),
        "n": len(prompts),
        "tokens": sum(lengths),
    }


def _tokens(prompt: PromptEntry, column: str, policy: PolicyView) -> Any:  # noqa: ANN401 - [T] ids
    columns = json.loads(prompt.columns_json)
    found = columns.get(column)
    text = str(found) if isinstance(found, str | int | float) else ""
    ids = policy.tokenizer.encode(text, add_special_tokens=False) if text else []
    if not ids:
        known = ", ".join(sorted(columns)) or "none"
        raise DataError(
            f"{prompt.prompt_id}: evaluator 'perplexity' finds no text in the column {column!r}: "
            f"name another with its `column` (the row has: {known})"
        )
    return np.array(ids, np.int32)
