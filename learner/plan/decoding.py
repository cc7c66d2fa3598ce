"""What an actor's engine does, for timing: prompts, then decode steps of a batch of one age.

The engine itself is the actors' own, which a learner does not import.
"""

from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models.cache import make_prompt_cache

from learner.plan.synthetic import synthetic_prompt
from protocol.policy import LanguageModel, log_softmax, logits


class Decoding:
    """A batch of completions.

    Args:
        model: mlx-lm's calling convention.
        columns: tokens that stand in the caches at first.
        rows: completions.
        group_size: completions of one prompt.
    """

    def __init__(self, model: LanguageModel, columns: int, rows: int, group_size: int) -> None:
        self._model = model
        self._columns = columns
        self._rows = rows
        self._num_prompts = -(-rows // group_size)
        self._caches: list[Any] = []
        self._tokens_B = mx.array([], dtype=mx.int32)

    def begin(self) -> None:
        """Prefill each prompt once and copy its caches for all completions."""
        empty = make_prompt_cache(cast(nn.Module, self._model))
        self._caches = [layer.merge([layer] * self._num_prompts) for layer in empty]
        prefill(self._model, self._caches, self._columns, self._num_prompts)
        prompt_of_B = mx.array(np.arange(self._rows) % self._num_prompts)
        for cache in self._caches:
            cache.filter(prompt_of_B)
        self._tokens_B = mx.zeros(self._rows, mx.int32)

    def step(self) -> None:
        """One token more of every completion."""
        logits_BV = logits(self._model, self._tokens_B[:, None], self._caches)[:, -1]
        logprobs_BV = log_softmax(logits_BV, 1.0)
        self._tokens_B = mx.random.categorical(logprobs_BV).astype(mx.int32)
        picked_B = mx.take_along_axis(logprobs_BV, self._tokens_B[:, None], axis=-1)
        mx.eval(self._tokens_B, picked_B)


def prefill(model: LanguageModel, caches: list[Any], num_tokens: int, num_prompts: int) -> None:
    """Compute the keys and values of prompts, without the head: its logits are wanted nowhere."""
    prompts = [synthetic_prompt(number, num_tokens) for number in range(num_prompts)]
    model(mx.array(np.stack(prompts)), cache=caches)
    mx.eval([cache.state for cache in caches])


def columns_read(
    prompt_tokens: int, completion_tokens: int, group_size: int, *, is_shared: bool
) -> int:
    """Cached tokens that a decode step reads for each row, on average over a completion.

    What rows cost beyond the model's matrices is the reading of their caches: a prompt that a group
    keeps once is read once for all its rows.
    """
    readers = group_size if is_shared else 1
    return max(1, prompt_tokens // readers + completion_tokens // 2)
