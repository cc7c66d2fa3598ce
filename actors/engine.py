"""Continuous batching: leases in, finished completions out, one decode step at a time.

A group's prompt is prefilled once and its KV cache copied for every sample; rows that end leave
the batch at once and waiting groups take their place. In lockstep a group has the batch to itself
instead, and gets the same bits wherever it is decoded. The step loop is our own, over mlx-lm's
models and batch caches, because mlx-lm's BatchGenerator reports logprobs before the temperature,
keeps a full row of the vocabulary for each of them, and samples from one stream for all rows.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.models.cache import make_prompt_cache

from actors.sampler import Sampler, completion_seed, sample
from protocol.messages import FinishReason, Lease
from protocol.policy import LanguageModel, logits


@dataclass(slots=True)
class Completion:
    """One row of the batch: a sample of a lease, and what was sampled so far."""

    lease: Lease
    sample: int
    seed: int
    policy_version: int
    """The version it runs under, from its first token to its last."""
    started: float
    token_ids: list[int] = field(default_factory=list)
    behaviour_logprobs: list[float] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    seconds: float = 0.0


class Engine:
    """Decodes the completions of many leases together.

    Args:
        model: mlx-lm's calling convention; its caches must support merging.
        stop_ids: tokens that end a completion (and belong to it).
        max_sequences: rows decoded at once; a single lease may have more.
        recycle_tokens: after so many tokens the batch is drained and MLX's buffers are given back,
            because Metal limits how many there may be.
        lockstep: decode one lease at a time, in a batch that keeps its shape: rows that ended stay,
            unheard, until the last one has. A matrix product's last bits change with the batch's
            size, so only thus does a completion depend on its lease and the weights alone.
        sampler: chooses tokens.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        model: LanguageModel,
        stop_ids: Iterable[int],
        *,
        max_sequences: int,
        recycle_tokens: int,
        lockstep: bool = False,
        sampler: Sampler = sample,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._model = model
        self._stop_ids = frozenset(stop_ids)
        self._max_sequences = max_sequences
        self._recycle_tokens = recycle_tokens
        self._lockstep = lockstep
        self._sampler = sampler
        self._clock = clock
        self._waiting: deque[Lease] = deque()
        self._rows: list[Completion] = []
        self._caches: list[Any] = []
        self._tokens_B = mx.array([], dtype=mx.int32)
        self._since_recycle = 0
        self.policy_version = -1
        """The version that the model holds; changed only while nothing is being decoded."""
        self.tokens_sampled = 0
        """Since the start."""

    @property
    def idle(self) -> bool:
        """Nothing is being decoded and nothing waits."""
        return not self._rows and not self._waiting

    @property
    def decoding(self) -> bool:
        """Completions have been begun and are not finished."""
        return bool(self._rows)

    def add(self, lease: Lease) -> None:
        """Queue a lease."""
        self._waiting.append(lease)

    def cancel(self, group_id: int, attempt: int) -> None:
        """Forget an attempt: its rows leave the batch, unreported."""
        gone = (group_id, attempt)
        self._waiting = deque(lease for lease in self._waiting if _key(lease) != gone)
        self._keep([i for i, row in enumerate(self._rows) if _key(row.lease) != gone])

    def clear(self) -> None:
        """Forget every lease."""
        self._waiting.clear()
        self._keep([])

    def progress(self) -> dict[tuple[int, int], int]:
        """Tokens sampled so far by the live rows of each (group, attempt); waiting ones have 0."""
        tokens = {_key(lease): 0 for lease in self._waiting}
        for row in self._rows:
            if not row.finish_reason:
                tokens[_key(row.lease)] = tokens.get(_key(row.lease), 0) + len(row.token_ids)
        return tokens

    def step(self, *, admit: bool = True) -> list[Completion]:
        """Let waiting groups in, sample one token for every row; returns what finished.

        Args:
            admit: False only finishes what was begun, so that `decoding` becomes false.
        """
        finished: list[Completion] = []
        while admit and (leases := self._next_leases()):
            finished += self._prefill(leases)
        if self._rows:
            logits_BV = logits(self._model, self._tokens_B[:, None], self._caches)[:, -1]
            finished += self._sample(logits_BV, range(len(self._rows)))
        if not self._rows:
            self._recycle()
        return finished

    def _next_leases(self) -> list[Lease]:
        """Take waiting leases that fit, as long as their prompts have the same length."""
        if self._lockstep:
            return [self._waiting.popleft()] if self._waiting and not self._rows else []
        leases: list[Lease] = []
        rows = len(self._rows)
        while self._waiting:
            lease = self._waiting[0]
            rows += lease.num_samples
            fits = rows <= self._max_sequences and self._since_recycle < self._recycle_tokens
            alone = rows == lease.num_samples
            if not (fits or alone) or len(lease.prompt_ids) != len(
                (leases or [lease])[0].prompt_ids
            ):
                break
            leases.append(self._waiting.popleft())
        return leases

    def _prefill(self, leases: list[Lease]) -> list[Completion]:
        """Prefill each lease's prompt once; its samples join the batch with their first token."""
        caches = _batch_caches(self._model, len(leases))
        prompts_PT = mx.array(np.stack([lease.prompt_ids for lease in leases]))
        logits_PV = logits(self._model, prompts_PT, caches)[:, -1]
        started, first = self._clock(), len(self._rows)
        self._rows += [
            Completion(lease, i, completion_seed(lease.seed, i), self.policy_version, started)
            for lease in leases
            for i in range(lease.num_samples)
        ]
        repeats = np.repeat(np.arange(len(leases)), [lease.num_samples for lease in leases])
        prompt_of_B = mx.array(repeats)
        for cache in caches:
            cache.filter(prompt_of_B)
        if self._caches:
            for held, new in zip(self._caches, caches, strict=True):
                held.extend(new)
        else:
            self._caches = caches
        return self._sample(logits_PV[prompt_of_B], range(first, len(self._rows)))

    def _sample(self, logits_BV: mx.array, indices: range) -> list[Completion]:
        """Append a token to the live rows at `indices`, the last of the batch; drop what ended."""
        rows = [self._rows[i] for i in indices]
        sampled = self._sampler(
            logits_BV,
            np.array([row.lease.temperature for row in rows], np.float32),
            np.array([row.seed for row in rows], np.uint64),
            np.array([len(row.token_ids) for row in rows], np.uint64),
        )
        mx.eval(sampled.tokens_B, sampled.logprobs_B)
        tokens, logprobs = np.array(sampled.tokens_B), np.array(sampled.logprobs_B)
        live = [i for i, row in enumerate(rows) if not row.finish_reason]
        for i in live:
            self._append(rows[i], tokens[i].item(), logprobs[i].item())
        self._tokens_B = mx.concatenate([self._tokens_B[: indices.start], sampled.tokens_B])
        self.tokens_sampled += len(live)
        self._since_recycle += len(rows)
        self._drop_finished()
        return [rows[i] for i in live if rows[i].finish_reason]

    def _drop_finished(self) -> None:
        going_on = [i for i, row in enumerate(self._rows) if not row.finish_reason]
        if not (self._lockstep and going_on):
            self._keep(going_on)

    def _append(self, row: Completion, token: int, logprob: float) -> None:
        row.token_ids.append(token)
        row.behaviour_logprobs.append(logprob)
        if token in self._stop_ids:
            row.finish_reason = "stop"
        elif len(row.token_ids) >= row.lease.max_completion_tokens:
            row.finish_reason = "length"
        if row.finish_reason:
            row.seconds = self._clock() - row.started

    def _keep(self, indices: list[int]) -> None:
        """Keep only the rows at `indices` in the batch."""
        if len(indices) == len(self._rows):
            return
        self._rows = [self._rows[i] for i in indices]
        if not indices:
            self._caches = []
            self._tokens_B = mx.array([], dtype=mx.int32)
            return
        kept = mx.array(indices)
        for cache in self._caches:
            cache.filter(kept)
        self._tokens_B = self._tokens_B[kept]

    def _recycle(self) -> None:
        if self._since_recycle >= self._recycle_tokens:
            self._since_recycle = 0
            mx.clear_cache()


def _batch_caches(model: LanguageModel, num_prompts: int) -> list[Any]:
    """Empty caches of a batch; `filter` with repeated indices copies rows in them."""
    return [
        layer.merge([layer] * num_prompts) for layer in make_prompt_cache(cast(nn.Module, model))
    ]


def _key(lease: Lease) -> tuple[int, int]:
    return lease.group_id, lease.attempt
