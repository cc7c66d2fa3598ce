"""Which held-out prompt, of which suite, a group id of an evaluation stands for."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from learner.exchange.prompt_book import PromptEntry
from learner.ledger.groups import EVALUATION_IDS
from learner.suites import Suite


class SuitePrompts(NamedTuple):
    """A suite, and what it completes."""

    suite: Suite
    prompts: Sequence[PromptEntry]


class Drawn(NamedTuple):
    """The groups of one evaluation: all prompts of all suites, in order."""

    group_ids: tuple[int, ...]
    num_samples: tuple[int, ...]
    """Completions of each."""


class EvaluationBook:
    """The prompts of every evaluation; each evaluation has new ids for the same ones."""

    def __init__(self, suites: Sequence[SuitePrompts] = ()) -> None:
        self.suites = tuple(suites)
        self._ends = tuple(accumulate(len(found.prompts) for found in self.suites))
        self._next = EVALUATION_IDS

    @property
    def num_prompts(self) -> int:
        """Of all suites."""
        return self._ends[-1] if self._ends else 0

    def draw(self) -> Drawn:
        """New groups, one for each prompt of each suite."""
        first = self._next
        self._next += self.num_prompts
        sizes = [found.suite.num_samples for found in self.suites for _ in found.prompts]
        return Drawn(tuple(range(first, self._next)), tuple(sizes))

    def index(self, group_id: int) -> int:
        """Which suite a group that was drawn belongs to."""
        return bisect_right(self._ends, self._place(group_id))

    def suite(self, group_id: int) -> Suite:
        """How a group that was drawn is completed and scored."""
        return self.suites[self.index(group_id)].suite

    def entry(self, group_id: int) -> PromptEntry:
        """The prompt of a group that was drawn."""
        prompts = self.suites[self.index(group_id)].prompts
        return prompts[self._place(group_id) - self._ends[self.index(group_id)]]  # from the end

    def _place(self, group_id: int) -> int:
        return (group_id - EVALUATION_IDS) % self.num_prompts
