"""Which prompt a group id stands for."""

import json
import logging
from collections.abc import Sequence, Set
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from learner.data.prompts import TokenizedPrompt
from learner.data.stream import Stream
from learner.ledger.events import PromptsAdded, PromptsEnded
from learner.ledger.groups import EVALUATION_IDS

if TYPE_CHECKING:
    from learner.exchange.evaluation_book import EvaluationBook

log = logging.getLogger("learner.prompts")


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
        evaluation: prompts of every evaluation.
        stream: the order of the training prompts.
        first: the stream's index to begin with.
    """

    def __init__(
        self,
        train: Sequence[TokenizedPrompt],
        evaluation: "EvaluationBook",
        stream: Stream,
        first: int,
    ) -> None:
        self._train = [prompt_entry(prompt) for prompt in train]
        self.evaluation = evaluation
        self._stream = stream
        self._next = first

    def draw(self, num_prompts: int, retired: Set[int]) -> PromptsAdded | PromptsEnded:
        """Next prompts of the training stream, or its end.

        Once every row is retired, the epoch that was begun is the last.

        Args:
            num_prompts: how many are to be issued; fewer at the end of the last epoch.
            retired: rows that come on top of these where the stream has them, not to be issued.
        """
        all_retired = all(row in retired for row in range(len(self._train)))
        first, rows = self._next, list[int]()
        while num_prompts and (row := self._stream.prompt_at(self._next)) is not None:
            if all_retired and self._next % len(self._train) == 0:
                break
            rows.append(row)
            num_prompts -= row not in retired
            self._next += 1
        if not rows:
            if all_retired:
                log.info("every prompt is retired")
            return PromptsEnded()
        return PromptsAdded(tuple(range(first, self._next)), tuple(rows))

    def entry(self, group_id: int) -> PromptEntry:
        """The prompt of a group that was drawn."""
        if group_id >= EVALUATION_IDS:
            return self.evaluation.entry(group_id)
        row = self._stream.prompt_at(group_id)
        assert row is not None
        return self._train[row]


def prompt_entry(prompt: TokenizedPrompt) -> PromptEntry:
    """What leases and scoring work need of a prompt."""
    return PromptEntry(
        prompt.row.prompt_id,
        prompt.row.prompt,
        np.array(prompt.prompt_ids, np.int32),
        json.dumps(prompt.row.prompt),
        json.dumps(prompt.row.columns),
    )
