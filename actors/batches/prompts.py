"""Prompts of one length on their way into KV caches."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from protocol.policy import LanguageModel


class Prompts:
    """Computes keys and values of all tokens but the last, in as many parts as one likes.

    The last token is for the first decode step: only there are logits needed, and the head, which
    for a small model costs as much as several layers, is never computed here.

    Args:
        model: mlx-lm's calling convention.
        caches: empty, for so many prompts (`Batch.open`).
        prompts: token ids of one length, which is at least 1.
        policy_version: the one that the model holds.
    """

    def __init__(
        self,
        model: LanguageModel,
        caches: list[Any],
        prompts: Sequence[NDArray[np.int32]],
        policy_version: int,
    ) -> None:
        self._model = model
        self.caches = caches
        self.policy_version = policy_version
        self.token_ids_PT = np.stack(prompts)
        self.num_prompts, length = self.token_ids_PT.shape
        self.num_tokens = length - 1
        """Of each prompt, to be computed here."""
        self._done = 0

    @property
    def remaining(self) -> int:
        """Tokens, over all prompts, that are still to be computed."""
        return (self.num_tokens - self._done) * self.num_prompts

    def advance(self, max_tokens: int) -> int:
        """Compute about so many tokens, at least one of each prompt; returns how many."""
        share = min(max(1, max_tokens // self.num_prompts), self.num_tokens - self._done)
        if share:
            part = self.token_ids_PT[:, self._done : self._done + share]
            self._model(mx.array(part), cache=self.caches)  # logits are lazy: never computed
            mx.eval([cache.state for cache in self.caches])
            self._done += share
        return share * self.num_prompts
