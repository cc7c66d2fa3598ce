"""Scored completions -> padded arrays, in microbatches of similar lengths under a token budget."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from learner.forward.prompts import SharedPrompts
from learner.padding import padded
from learner.samples import ScoredSample

Column = NDArray[Any]
"""[T] one figure for each token of a completion."""

Extra = dict[str, list[Column | None]]
"""Figures of each sample's tokens by name: one [T] a sample, None where it was not computed."""


@dataclass(frozen=True)
class Microbatch:
    """Completions that go through the model together; column t is completion token t."""

    indices: tuple[int, ...]
    """Which samples of the batch the rows are."""
    prompts: SharedPrompts | None
    """The rows' prompts, to be computed once each; None: every row of the inputs holds its own."""
    inputs_BL: mx.array
    """[B, L] prompt and completion without its last token, padded on the right; with shared prompts
    only the prompt's last token and what follows."""
    first_B: tuple[int, ...]
    """Column of the inputs whose next token is the completion's first."""
    targets_BT: mx.array
    """[B, T] the completions."""
    mask_BT: mx.array
    """[B, T] True where a completion has a token."""
    behaviour_logprobs_BT: mx.array
    """[B, T] nats; 0 outside the mask."""
    staleness_BT: mx.array
    """[B, T] policy versions; 0 outside the mask."""
    extra: dict[str, mx.array] = field(default_factory=dict)
    """[B, T] further figures by name; 0 outside the mask."""

    @property
    def num_tokens(self) -> int:
        """Tokens that the model computes, padding included."""
        shared = 0 if self.prompts is None else self.prompts.tokens_NP.size
        return shared + self.inputs_BL.size

    def rows(self, arrays_BT: NDArray[Any]) -> dict[int, NDArray[Any]]:
        """Cut an array of this shape into one [T] for each sample, without padding."""
        lengths = np.array(self.mask_BT).sum(axis=1)
        return {
            index: arrays_BT[row, : lengths[row]].copy() for row, index in enumerate(self.indices)
        }


def microbatches(
    samples: Sequence[ScoredSample],
    indices: Sequence[int],
    *,
    policy_version: int,
    token_budget: int,
    share_prompts: bool,
    extra: Extra | None = None,
) -> list[Microbatch]:
    """Some samples of a batch, put together by prompt or by length: whichever computes less.

    Padding is on the right: with causal attention it reaches no completion token.

    Args:
        samples: the whole batch.
        indices: which of them to compute.
        policy_version: the learner's.
        token_budget: padded tokens of one microbatch; a longer single sample gets its own.
        share_prompts: compute a prompt once for all its completions in a microbatch.
        extra: further figures of all samples of the batch; zeros where there are none.
    """
    by_length = sorted(indices, key=_by_length(samples))
    plans = [_packed(samples, by_length, token_budget, shared=False)]
    if share_prompts and any(len(samples[i].prompt_ids) > 1 for i in indices):
        by_prompt = sorted(indices, key=_by_prompt(samples, indices))
        plans += [_packed(samples, o, token_budget, shared=True) for o in (by_length, by_prompt)]
    best = min(plans, key=lambda plan: sum(pack.cost for pack in plan))
    return [_microbatch(samples, pack, policy_version, extra or {}) for pack in best]


@dataclass
class _Pack:
    """Samples of one microbatch, and the tokens that they cost."""

    shared: bool
    indices: list[int] = field(default_factory=list)
    prompts: dict[bytes, int] = field(default_factory=dict)
    """Row of each distinct prompt."""
    longest_row: int = 0
    longest_prompt: int = 0

    def with_sample(self, sample: ScoredSample, index: int) -> "_Pack":
        key = sample.prompt_ids.tobytes()
        row = len(sample.rollout.token_ids) + (0 if self.shared else len(sample.prompt_ids) - 1)
        return _Pack(
            self.shared,
            [*self.indices, index],
            self.prompts if key in self.prompts else {**self.prompts, key: len(self.prompts)},
            max(self.longest_row, row),
            max(self.longest_prompt, len(sample.prompt_ids) - 1),
        )

    @property
    def cost(self) -> int:
        """Tokens, padding included."""
        rows = len(self.indices) * padded(self.longest_row)
        if not self.shared or not self.longest_prompt:
            return rows
        return rows + len(self.prompts) * padded(self.longest_prompt)


def _packed(
    samples: Sequence[ScoredSample], order: Sequence[int], token_budget: int, *, shared: bool
) -> list[_Pack]:
    packs: list[_Pack] = []
    for index in order:
        grown = (packs[-1] if packs else _Pack(shared)).with_sample(samples[index], index)
        if packs and grown.cost <= token_budget:
            packs[-1] = grown
        else:
            packs.append(_Pack(shared).with_sample(samples[index], index))
    return packs


def _by_length(samples: Sequence[ScoredSample]) -> Any:  # noqa: ANN401 - a sorting key
    def key(index: int) -> tuple[int, int, int]:
        sample = samples[index]
        return len(sample.rollout.token_ids), len(sample.prompt_ids), index

    return key


def _by_prompt(samples: Sequence[ScoredSample], indices: Sequence[int]) -> Any:  # noqa: ANN401
    """Prompts by their longest completion, so that neighbours are of similar length."""
    longest: dict[bytes, int] = {}
    for index in indices:
        prompt = samples[index].prompt_ids.tobytes()
        tokens = len(samples[index].rollout.token_ids)
        longest[prompt] = max(longest.get(prompt, 0), tokens)

    def key(index: int) -> tuple[int, bytes, int, int]:
        prompt = samples[index].prompt_ids.tobytes()
        return longest[prompt], prompt, len(samples[index].rollout.token_ids), index

    return key


def _microbatch(
    samples: Sequence[ScoredSample],
    pack: _Pack,
    policy_version: int,
    extra: Extra,
) -> Microbatch:
    rows = [samples[index] for index in pack.indices]
    shares = pack.shared and pack.longest_prompt > 0
    prompts = _shared_prompts(rows, pack) if shares else None
    inputs = [
        np.concatenate([s.prompt_ids[-1:] if shares else s.prompt_ids, s.rollout.token_ids[:-1]])
        for s in rows
    ]
    width = max(len(sample.rollout.token_ids) for sample in rows)
    width = padded(width)

    def columns(figures: Sequence[Column | None], dtype: Any = np.float32) -> mx.array:  # noqa: ANN401
        return _filled(figures, width, dtype)

    return Microbatch(
        indices=tuple(pack.indices),
        prompts=prompts,
        inputs_BL=_filled(inputs, padded(max(len(row) for row in inputs)), np.int32),
        first_B=tuple(0 if shares else len(s.prompt_ids) - 1 for s in rows),
        targets_BT=columns([s.rollout.token_ids for s in rows], np.int32),
        mask_BT=columns([np.ones(len(s.rollout.token_ids)) for s in rows], np.bool_),
        behaviour_logprobs_BT=columns([s.rollout.behaviour_logprobs for s in rows]),
        staleness_BT=columns([policy_version - _versions(s) for s in rows]),
        extra={
            name: columns([figures[index] for index in pack.indices])
            for name, figures in extra.items()
        },
    )


def _shared_prompts(rows: Sequence[ScoredSample], pack: _Pack) -> SharedPrompts:
    prompts = [np.frombuffer(key, np.int32)[:-1] for key in pack.prompts]
    return SharedPrompts(
        tokens_NP=_filled(prompts, padded(pack.longest_prompt), np.int32),
        lengths_N=tuple(len(prompt) for prompt in prompts),
        prompt_of_B=tuple(pack.prompts[sample.prompt_ids.tobytes()] for sample in rows),
    )


def _versions(sample: ScoredSample) -> NDArray[np.int64]:
    versions, tokens = zip(*sample.rollout.policy_versions, strict=True)
    return np.repeat(np.array(versions), np.array(tokens))


def _filled(rows: Sequence[Column | None], width: int, dtype: Any) -> mx.array:  # noqa: ANN401
    """Rows padded on the right with zeros."""
    filled = np.zeros((len(rows), width), dtype)
    for number, row in enumerate(rows):
        if row is not None:
            filled[number, : len(row)] = row
    return mx.array(cast(Any, filled))  # mlx does not declare numpy booleans
