"""The frozen reference policy, for KL penalties."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import mlx.core as mx

from learner.batch import Microbatch
from learner.forward.forward import Forward
from protocol.config import RunConfig
from protocol.policy import Policy, load_policy


class Reference:
    """The policy that the run started from.

    With adapters it is the trained model with its adapters off, which takes no memory; with full
    tuning it is a second copy of the model.

    Args:
        policy: the one that is trained.
        forward: its forward pass.
        config: the run.
    """

    def __init__(self, policy: Policy, forward: Forward, config: RunConfig) -> None:
        self._adapted = policy.model if config.learner.tuning == "lora" else None
        self._forward = forward
        if self._adapted is None:
            self._forward = Forward(
                load_policy(config).model,
                config.learner,
                temperature=config.generation.temperature,
                entropy_gradient=False,
            )

    def logprobs(self, part: Microbatch) -> mx.array:
        """[B, T] nats at the sampling temperature, evaluated; 0 outside the mask."""
        off = nullcontext() if self._adapted is None else adapters_off(self._adapted)
        with off:
            logprobs_BT = self._forward(part).logprobs_BT
            mx.eval(logprobs_BT)
        return logprobs_BT


@contextmanager
def adapters_off(model: Any) -> Iterator[None]:  # noqa: ANN401 - mlx-lm's models have no common type
    """Let a model with LoRA adapters compute as if it had none; what is computed must be evaluated.

    An adapter adds `scale * (x A B)`; with a scale of 0 it adds exact zeros.
    """
    adapters = [module for module in model.modules() if hasattr(module, "lora_a")]
    scales = [adapter.scale for adapter in adapters]
    try:
        for adapter in adapters:
            adapter.scale = 0.0
        yield
    finally:
        for adapter, scale in zip(adapters, scales, strict=True):
            adapter.scale = scale
