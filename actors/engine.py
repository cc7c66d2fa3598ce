"""Continuous batching: leases in, finished completions out, one decode step at a time.

A group's prompt is computed once for all its samples (actors/entrance.py); rows that end leave the
batch at once and waiting samples take their place; weights may change between two steps. In
lockstep a group has the batch to itself instead, and gets the same bits wherever it is decoded.
The step loop is our own, over mlx-lm's models, because mlx-lm's BatchGenerator reports logprobs
before the temperature, keeps a full row of the vocabulary for each of them, samples from one
stream for all rows, and holds a copy of the prompt's keys and values for each row.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from actors.batches.batch import Batch
from actors.batches.prompts import Prompts
from actors.completion import Completion
from actors.entrance import Entrance, Room
from actors.sampler import Sampled, Sampler, completion_seed, sample
from actors.stopping import Stopping
from protocol.messages import Lease
from protocol.policy import LanguageModel


class _Step(NamedTuple):
    """One token of every row, perhaps still being computed."""

    rows: tuple[Completion, ...]
    sampled: Sampled
    policy_version: int


class Engine:
    """Decodes the completions of many leases together.

    Args:
        model: mlx-lm's calling convention.
        batch: keeps the rows' keys and values.
        stopping: what ends a completion.
        room: how much is decoded at once. In lockstep one lease is decoded at a time, in a batch
            that keeps its shape: rows that ended stay, unheard, until the last one has. A matrix
            product's last bits change with the batch's size, so only thus does a completion depend
            on its lease and the weights alone.
        recycle_tokens: after so many tokens the batch is drained and MLX's buffers are given back,
            because Metal limits how many there may be.
        recompute: after weights have changed, compute keys and values of what is decoded anew.
        look_ahead: begin each step before the tokens of the one before are looked at, so that a GPU
            never waits for Python; rows that end are computed for one token in vain.
        sampler: chooses tokens.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        model: LanguageModel,
        batch: Batch,
        stopping: Stopping,
        room: Room,
        *,
        recycle_tokens: int,
        recompute: bool = False,
        look_ahead: bool = False,
        sampler: Sampler = sample,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._batch = batch
        self._stopping = stopping
        self._lockstep = room.lockstep
        self._entrance = Entrance(model, batch, room)
        self._recycle_tokens = recycle_tokens
        self._recompute = recompute
        self._look_ahead = look_ahead and not room.lockstep
        self._sampler = sampler
        self._clock = clock
        self._rows: list[Completion] = []
        """In the batch, in its order."""
        self._live: list[Completion] = []
        """Of which tokens are still to come, in the batch or in a step."""
        self._tokens_B = mx.array([], dtype=mx.int32)
        self._steps: deque[_Step] = deque()
        self._early: list[Completion] = []
        """Finished outside of a step."""
        self._since_recycle = 0
        self.policy_version = -1
        """The version that the model holds; may change between two steps."""
        self.tokens_sampled = 0
        """Since the start."""

    @property
    def idle(self) -> bool:
        """Nothing is being decoded and nothing waits."""
        return not self.decoding and not any(True for _ in self._entrance)

    @property
    def decoding(self) -> bool:
        """Completions have been begun and are not finished, or not handed out."""
        return bool(self._live or self._rows or self._early)

    @property
    def num_decoding(self) -> int:
        """Completions that are decoded now."""
        return len(self._live)

    @property
    def leases(self) -> list[Lease]:
        """Everything that is decoded or waits."""
        return [row.lease for row in self._live] + list(self._entrance)

    def add(self, lease: Lease) -> None:
        """Queue a lease."""
        self._entrance.add(lease)

    def cancel(self, group_id: int, attempt: int) -> None:
        """Forget an attempt: its rows leave the batch, unreported."""
        self._entrance.cancel(group_id, attempt)
        self._early = [row for row in self._early if row.attempt != (group_id, attempt)]
        self._forget([row for row in self._live if row.attempt == (group_id, attempt)])
        self._keep([i for i, row in enumerate(self._rows) if row.attempt != (group_id, attempt)])

    def clear(self) -> None:
        """Forget every lease."""
        self._entrance.clear()
        self._forget(list(self._live))
        self._keep([])
        self._steps.clear()
        self._early.clear()

    def progress(self) -> dict[tuple[int, int], int]:
        """Tokens sampled so far by the live rows of each (group, attempt); waiting ones have 0."""
        tokens = {(lease.group_id, lease.attempt): 0 for lease in self._entrance}
        for row in self._live:
            tokens[row.attempt] = tokens.get(row.attempt, 0) + len(row.token_ids)
        return tokens

    def step(self, *, admit: bool = True) -> list[Completion]:
        """Let waiting samples in, sample one token for every row; returns what finished.

        Args:
            admit: False only finishes what was begun, so that `decoding` becomes false.
        """
        finished, self._early = self._early, []
        if admit and (self._since_recycle < self._recycle_tokens or not self._rows):
            self._admit()
        while self._rows and len(self._steps) <= self._look_ahead:
            self._begin_step()
        if self._steps:
            finished += self._end_step()
        if not self._rows and self._since_recycle >= self._recycle_tokens:
            self._since_recycle = 0
            mx.clear_cache()
        return finished

    def weights_changed(self) -> None:
        """Go on with the model's new weights; `policy_version` says already which they are.

        Tokens of a step that has begun are of the version that it began with. Keys and values stay,
        or are computed anew (`recompute`).
        """
        if not self._recompute or not self._rows:
            return
        while self._steps:
            self._early += self._end_step()
        rows = sorted(self._rows, key=_num_tokens)
        self._batch.keep([])
        for _, alike in groupby(rows, key=_num_tokens):
            self._compute_again(list(alike))
        self._rows = rows
        self._tokens_B = mx.array([row.next_input() for row in rows], dtype=mx.int32)

    def _compute_again(self, rows: Sequence[Completion]) -> None:
        at_once = len(rows) if self._batch.prompts_together else 1
        for start in range(0, len(rows), at_once):
            part = rows[start : start + at_once]
            caches = self._batch.open(len(part))
            token_ids = [_token_ids(row) for row in part]
            prompts = Prompts(self._model, caches, token_ids, self.policy_version)
            prompts.advance(prompts.remaining)
            self._batch.join(prompts, list(range(len(part))))

    def _admit(self) -> None:
        joined = self._entrance.enter(self._rows, self.policy_version)
        if not joined:
            return
        now = self._clock()
        rows = [
            Completion(lease, index, completion_seed(lease.seed, index), now)
            for lease, index in joined
        ]
        self._rows += rows
        self._live += rows
        inputs = mx.array([row.next_input() for row in rows], dtype=mx.int32)
        self._tokens_B = mx.concatenate([self._tokens_B, inputs])

    def _begin_step(self) -> None:
        """Have the next token of every row computed; rows that need no other leave the batch."""
        rows = self._rows
        sampled = self._sampler(
            self._batch.logits(self._tokens_B),
            np.array([row.lease.temperature for row in rows], np.float32),
            np.array([row.seed for row in rows], np.uint64),
            np.array([row.num_dispatched for row in rows], np.uint64),
        )
        mx.async_eval(sampled.tokens_B, sampled.logprobs_B)
        self._steps.append(_Step(tuple(rows), sampled, self.policy_version))
        self._tokens_B = sampled.tokens_B
        self._since_recycle += len(rows)
        for row in rows:
            row.num_dispatched += 1
        if not self._lockstep:
            self._keep([i for i, row in enumerate(rows) if not _is_at_length(row)])

    def _end_step(self) -> list[Completion]:
        """Look at the tokens of the oldest step; returns what finished with them."""
        step = self._steps.popleft()
        tokens = np.array(step.sampled.tokens_B).tolist()
        logprobs = np.array(step.sampled.logprobs_B).tolist()
        finished: list[Completion] = []
        for row, token, logprob in zip(step.rows, tokens, logprobs, strict=True):
            if row.is_live:
                self.tokens_sampled += 1
                row.append(token, logprob, step.policy_version)
                if self._has_ended(row):
                    finished.append(row)
        if finished:
            self._live = [row for row in self._live if row.is_live]
            going_on = [i for i, row in enumerate(self._rows) if row.is_live]
            if not (self._lockstep and going_on):
                self._keep(going_on)
        return finished

    def _has_ended(self, row: Completion) -> bool:
        if self._stopping.is_last(row.token_ids):
            row.finish_reason = "stop"
        elif len(row.token_ids) >= row.lease.max_completion_tokens:
            row.finish_reason = "length"
        else:
            return False
        row.seconds = self._clock() - row.started
        return True

    def _forget(self, rows: Sequence[Completion]) -> None:
        for row in rows:
            row.is_cancelled = True
        self._live = [row for row in self._live if row.is_live]

    def _keep(self, indices: list[int]) -> None:
        """Keep only the rows at `indices` in the batch."""
        if len(indices) == len(self._rows):
            return
        self._rows = [self._rows[i] for i in indices]
        self._batch.keep(indices)
        self._tokens_B = self._tokens_B[mx.array(indices, dtype=mx.int32)]


def _is_at_length(row: Completion) -> bool:
    return row.num_dispatched >= row.lease.max_completion_tokens


def _num_tokens(row: Completion) -> int:
    return len(row.lease.prompt_ids) + len(row.token_ids)


def _token_ids(row: Completion) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.concatenate([row.lease.prompt_ids, np.array(row.token_ids, np.int32)])
