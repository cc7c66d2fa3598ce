"""A file of rollouts -> the samples that the step was given.

What the rows do not hold comes from the data: the prompt's tokens, and the columns for rewards.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from learner.data.prompts import TokenizedPrompt
from learner.data.stream import Stream
from learner.replay.recorded import Row
from learner.replay.verdict import Verdict
from learner.samples import ScoredSample
from protocol.messages import NamedReward, Rollout, Score

_RUN_EPOCH = 0
"""Rows do not hold it, and no step depends on it."""


class Decoder(Protocol):
    """What is used of the policy's tokenizer."""

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> str:
        """Text of tokens."""
        ...


@dataclass(frozen=True)
class Rebuilt:
    """A step's batch, in the file's order."""

    rows: list[Row]
    samples: list[ScoredSample]
    prompts: list[TokenizedPrompt]


@dataclass(frozen=True)
class Rebuilder:
    """Makes samples of rows.

    Args:
        prompts: the run's training prompts.
        stream: their order; a group's id is an index of it.
        decoder: of the policy.
        vocabulary: tokens that the policy knows.
        group_size: completions of each prompt.
    """

    prompts: Sequence[TokenizedPrompt]
    stream: Stream
    decoder: Decoder
    vocabulary: int
    group_size: int

    def rebuild(self, content: bytes, verdict: Verdict) -> Rebuilt | None:
        """Samples of a file of rollouts; None, with a difference each, where a row can be none."""
        rebuilt, is_whole = Rebuilt([], [], []), True
        for number, line in enumerate(content.splitlines(), start=1):
            try:
                row = json.loads(line)
                prompt, sample = self._sample(row)
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                reason = " ".join(str(error).split())
                verdict.add("rollouts", f"line {number}", "row", reason, "a rollout with a score")
                is_whole = False
                continue
            rebuilt.rows.append(row)
            rebuilt.prompts.append(prompt)
            rebuilt.samples.append(sample)
        if is_whole and not rebuilt.rows:
            verdict.add("rollouts", "the file", "number of rows", 0, "whole groups")
        if not (is_whole and rebuilt.rows):
            return None
        self._check_order(rebuilt.rows, verdict)
        self._check_texts(rebuilt, verdict)
        return rebuilt

    def _sample(self, row: Row) -> tuple[TokenizedPrompt, ScoredSample]:
        index = self.stream.prompt_at(row["group"])
        if index is None:
            raise LookupError(f"group {row['group']} is beyond the data's last epoch")
        prompt, rollout = self.prompts[index], _rollout(row)
        if int(rollout.token_ids.max()) >= self.vocabulary:
            raise ValueError(f"token id {rollout.token_ids.max()} is beyond the vocabulary")
        return prompt, ScoredSample(
            prompt_id=prompt.row.prompt_id,
            prompt=prompt.row.prompt,
            prompt_ids=np.array(prompt.prompt_ids, np.int32),
            actor=row["actor"],
            rollout=rollout,
            score=_score(row),
        )

    def _check_order(self, rows: Sequence[Row], verdict: Verdict) -> None:
        """Whole groups, one after another, each with its samples in order."""
        due = list(self._due(rows))
        for number, (row, wanted) in enumerate(zip(rows, due, strict=False), start=1):
            found = (row["group"], row["sample"])
            if found != wanted:
                verdict.add("rollouts", f"line {number}", "group and sample", found, wanted)
        if len(rows) != len(due):
            verdict.add("rollouts", "the file", "number of rows", len(rows), len(due))

    def _due(self, rows: Sequence[Row]) -> Iterator[tuple[int, int]]:
        for group in dict.fromkeys(row["group"] for row in rows):
            for sample in range(self.group_size):
                yield group, sample

    def _check_texts(self, rebuilt: Rebuilt, verdict: Verdict) -> None:
        """Rewards judge the text and the step learns the tokens: they must be the same."""
        for row in rebuilt.rows:
            wanted = self.decoder.decode(row["token_ids"], skip_special_tokens=True)
            if row["completion"] != wanted:
                verdict.add("rollouts", place(row), "completion", row["completion"], wanted)


def place(row: Row) -> str:
    """How a report names a rollout."""
    return f"group {row['group']} sample {row['sample']}"


def _rollout(row: Row) -> Rollout:
    return Rollout.model_validate(
        {
            **_key(row),
            "token_ids": row["token_ids"],
            "behaviour_logprobs": row["behaviour_logprobs"],
            "policy_versions": row["policy_versions"],
            "finish_reason": row["finish_reason"],
            "completion": row["completion"],
            "seconds": 0.0,
        }
    )


def _score(row: Row) -> Score:
    facts = row.get("facts", {})
    rewards = tuple(
        NamedReward(name=name, reward=reward, facts=facts.get(name, {}))
        for name, reward in row["rewards"].items()
    )
    return Score.model_validate(
        {**_key(row), "reward": row["reward"], "rewards": rewards, "status": row["status"]}
    )


def _key(row: Row) -> dict[str, Any]:
    key = {"group_id": row["group"], "attempt": row["attempt"], "sample": row["sample"]}
    return {"run_epoch": _RUN_EPOCH, **key}
