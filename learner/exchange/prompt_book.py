"""Which prompt a group id stands for."""

import json
from collections.abc import Sequence
from itertools import count, islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from learner.data import PromptStream, TokenizedPrompt
from learner.ledger.groups import EVALUATION_IDS


class PromptEntry(NamedTuple):
    """One prompt as leases and scoring work need it."""

    prompt_id: str
    prompt: object
    prompt_ids: NDArray[np.int32]
    prompt_json: str
    columns_json: str


class PromptBook:
    """All prompts of a run: the training stream by its index, held-out prompts by evaluation id.

    Args:
        train: training prompts.
        heldout: prompts of every evaluation.
        stream: the order of the training prompts.
        first: the stream's index to begin with.
    """

    def __init__(
        self,
        train: Sequence[TokenizedPrompt],
        heldout: Sequence[TokenizedPrompt],
        stream: PromptStream,
        first: int,
    ) -> None:
        self._train = [_entry(prompt) for prompt in train]
        self._heldout = [_entry(prompt) for prompt in heldout]
        self._stream = stream
        self._next = first
        self._next_evaluation = EVALUATION_IDS

    @property
    def num_heldout(self) -> int:
        """Held-out prompts."""
        return len(self._heldout)

    def draw(self, num_prompts: int) -> tuple[int, ...]:
        """Next group ids of the training stream; fewer at its end."""
        drawn = [
            index
            for index in islice(count(self._next), num_prompts)
            if self._stream.prompt_at(index) is not None
        ]
        self._next += len(drawn)
        return tuple(drawn)

    def draw_evaluation(self) -> tuple[int, ...]:
        """New group ids, one for each held-out prompt in order."""
        first = self._next_evaluation
        self._next_evaluation += len(self._heldout)
        return tuple(range(first, self._next_evaluation))

    def entry(self, group_id: int) -> PromptEntry:
        """The prompt of a group that was drawn."""
        if group_id >= EVALUATION_IDS:
            return self._heldout[(group_id - EVALUATION_IDS) % len(self._heldout)]
        row = self._stream.prompt_at(group_id)
        assert row is not None
        return self._train[row]


def _entry(prompt: TokenizedPrompt) -> PromptEntry:
    return PromptEntry(
        prompt.row.prompt_id,
        prompt.row.prompt,
        np.array(prompt.prompt_ids, np.int32),
        json.dumps(prompt.row.prompt),
        json.dumps(prompt.row.columns),
    )
