"""Does this model say the same in a batch as alone? Asked of every model before it generates."""

import logging
from collections.abc import Callable

import mlx.core as mx
import numpy as np

from actors.batches.batch import Batch
from actors.batches.merged import Merged
from actors.batches.rows import SHARED_PROMPT_TOKENS, Rows, keeps_plain_keys_and_values
from actors.batches.single import Single
from actors.completion import Completion
from actors.engine import Engine
from actors.entrance import Room
from actors.stopping import Stopping
from protocol.messages import Lease
from protocol.policy import LanguageModel, logits, token_logprobs

log = logging.getLogger("actors.self_check")

PROMPT_TOKENS = (5, 17, 11)
COMPLETION_TOKENS = 4
FIRST_SHARED = 8
"""Prompt tokens from which on the check shares prompts, where the batch may: some of each kind."""
TOLERANCE = {mx.float32: 1e-3}
HALF_TOLERANCE = 0.5
"""Nats, for models that compute in 16 bits: what their rounding does; a wrong mask does more."""


def suitable_batch(model: LanguageModel, dtype: mx.Dtype, *, share_prompts: bool = True) -> Batch:
    """Give the fastest way to keep this model's rows that is right.

    Args:
        model: mlx-lm's calling convention.
        dtype: that it computes in. Prompts are shared in fp32 only: scores over them are taken
            outside MLX's fused kernel, which in 16 bits would cost precision.
        share_prompts: False copies every prompt to each row.
    """
    ways: list[tuple[str, Callable[[int | None], Batch]]] = []
    if keeps_plain_keys_and_values(model):
        if share_prompts and dtype == mx.float32:
            ways.append(("rows with shared prompts", lambda least: Rows(model, least)))
        ways.append(("rows", lambda _: Rows(model, None)))
    ways.append(("mlx-lm's batch caches", lambda _: Merged(model)))
    for name, make in ways:
        trouble = _trouble(model, make(FIRST_SHARED), TOLERANCE.get(dtype, HALF_TOLERANCE))
        if not trouble:
            log.debug("decoding with %s", name)
            return make(SHARED_PROMPT_TOKENS)
        log.warning("this model is not right with %s (%s): trying another way", name, trouble)
    log.warning("this model is decoded one completion at a time, which is slow: see above")
    return Single(model)


def _trouble(model: LanguageModel, batch: Batch, tolerance: float) -> str:
    """Decode a few tokens in a batch; returns what is wrong with them, or nothing."""
    try:
        completions = _decode(model, batch)
    except Exception as error:  # noqa: BLE001 - whatever a model's code raises means: not this way
        return f"{type(error).__name__}: {error}"
    worst = np.max([_difference(model, completion) for completion in completions])  # keeps a NaN
    if not worst <= tolerance:
        return f"logprobs differ by {worst:.3g} nats from those of a plain forward pass"
    return ""


def _decode(model: LanguageModel, batch: Batch) -> list[Completion]:
    """Three prompts of different lengths, of which the last comes late."""
    vocabulary = model(mx.array([[0]])).shape[-1]
    engine = Engine(model, batch, Stopping(()), Room(64), recycle_tokens=10**9)
    engine.policy_version = 0
    finished: list[Completion] = []
    for index, length in enumerate(PROMPT_TOKENS):
        prompt_ids = (np.arange(length, dtype=np.int32) * 31 + 7 * index + 3) % vocabulary
        lease = Lease.model_validate(
            {
                "group_id": index,
                "attempt": 1,
                "purpose": "train",
                "prompt_ids": prompt_ids,
                "num_samples": 2,
                "seed": index,
                "temperature": 1.0,
                "max_completion_tokens": COMPLETION_TOKENS + index,
                "policy_version": 0,
            }
        )
        engine.add(lease)
        if index:
            finished += engine.step()
    while not engine.idle:
        finished += engine.step()
    return finished


def _difference(model: LanguageModel, completion: Completion) -> float:
    """Largest |logprob in the batch - logprob of a forward pass over the whole text|, in nats."""
    token_ids = np.concatenate([completion.lease.prompt_ids, completion.token_ids])
    logits_TV = logits(model, mx.array(token_ids[None, :-1].astype(np.int32)))[0]
    first = len(completion.lease.prompt_ids) - 1
    wanted_T = token_logprobs(logits_TV[first:], mx.array(completion.token_ids), 1.0)
    return float(np.abs(np.array(wanted_T) - np.array(completion.behaviour_logprobs)).max())
