"""What crosses from the exchange thread to the training thread: scored completions."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from learner.exchange.prompt_book import PromptEntry
from learner.ledger.groups import Group
from learner.ledger.snapshot import Snapshot
from protocol.messages import Rollout, Score


@dataclass(frozen=True)
class ScoredSample:
    """One completion with its prompt, its facts and its rewards."""

    prompt_id: str
    prompt: object
    """As in the data row: a string or chat messages."""
    prompt_ids: NDArray[np.int32]
    actor: str
    rollout: Rollout
    score: Score

    @property
    def oldest_version(self) -> int:
        """Policy version of its oldest token."""
        return self.rollout.policy_versions[0][0]


SuiteSamples: TypeAlias = tuple[tuple[ScoredSample, ...], ...]
"""What an evaluation gives: all completions of each suite, in the order of the suites."""


@dataclass(frozen=True)
class ScoredBatch:
    """A training batch: whole groups in ledger order."""

    samples: tuple[ScoredSample, ...]
    """Empty: the data has ended."""
    snapshot: Snapshot
    """Of the ledger, for the checkpoint of the weights that this batch results in."""


def scored_samples(group: Group, prompt: PromptEntry) -> list[ScoredSample]:
    """All completions of a group whose last score has come."""
    samples: list[ScoredSample] = []
    for sample in group.samples:
        assert sample.rollout is not None
        assert sample.score is not None
        samples.append(
            ScoredSample(
                prompt.prompt_id,
                prompt.prompt,
                prompt.prompt_ids,
                group.holder,
                sample.rollout,
                sample.score,
            )
        )
    return samples
