"""What an actor's engine does at each decode step, for timing: a batch of one age, no stops.

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
        self.num_prompts = -(-rows // group_size)
        self._caches: list[Any] = []
        self._tokens_B = mx.array([], dtype=mx.int32)

    def begin(self) -> None:
        """Prefill each prompt once and copy its caches for all completions."""
        self._caches = [
            layer.merge([layer] * self.num_prompts)
            for layer in make_prompt_cache(cast(nn.Module, self._model))
        ]
        prompts = [synthetic_prompt(number, self._columns) for number in range(self.num_prompts)]
        logits_PV = logits(self._model, mx.array(np.stack(prompts)), self._caches)[:, -1]
        prompt_of_B = mx.array(np.arange(self._rows) % self.num_prompts)
        for cache in self._caches:
            cache.filter(prompt_of_B)
        self._sample(logits_PV[prompt_of_B])

    def step(self) -> None:
        """One token more of every completion."""
        self._sample(logits(self._model, self._tokens_B[:, None], self._caches)[:, -1])

    def _sample(self, logits_BV: mx.array) -> None:
        logprobs_BV = log_softmax(logits_BV, 1.0)
        self._tokens_B = mx.random.categorical(logprobs_BV).astype(mx.int32)
        picked_B = mx.take_along_axis(logprobs_BV, self._tokens_B[:, None], axis=-1)
        mx.eval(self._tokens_B, picked_B)
