"""Putting an engine together from a run's config and this machine."""

import time
from collections.abc import Callable

import mlx.core as mx

from actors.engine import Engine
from actors.entrance import Room
from actors.self_check import suitable_batch
from actors.stopping import Stopping
from protocol.config import RunConfig
from protocol.policy import Policy


def make_engine(
    policy: Policy, config: RunConfig, clock: Callable[[], float] = time.monotonic
) -> Engine:
    """The engine of one actor; looks first how this model can be decoded in a batch.

    Args:
        policy: in evaluation mode.
        config: the run.
        clock: monotonic seconds.
    """
    section = config.generation
    recompute = section.recompute_kv_cache_after_weight_updates
    return Engine(
        policy.model,
        suitable_batch(policy.model, policy.compute_dtype, share_prompts=not recompute),
        Stopping(policy.stop_ids(), section.stop, policy.tokenizer),
        Room(
            section.max_sequences,
            section.max_kv_bytes,
            section.prefill_step_tokens,
            lockstep=config.run.deterministic,
        ),
        recycle_tokens=section.recycle_tokens,
        recompute=recompute,
        look_ahead=mx.default_device().type == mx.gpu,
        clock=clock,
    )
