"""What an algorithm is: two functions, chosen by name.

The learner's loop calls them and never learns the name:

    rewards of a batch -> algorithm.advantages -> microbatches -> algorithm.loss -> one step

To add one, add learner/algorithms/<name>.py with a function decorated by `@algorithm("<name>")`:
its keyword arguments are what a config may set, with the bounds that their annotations give.
"""

from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError, validate_call

from learner.losses import Metrics
from protocol.config import AlgorithmSection
from protocol.errors import ConfigError
from protocol.registry import Registry


@dataclass(frozen=True, kw_only=True)
class BatchRewards:
    """What advantages are made of: all samples of a training batch, before microbatching."""

    rewards_B: tuple[float | None, ...]
    """[B] weighted sums; None masks the sample."""
    groups_B: tuple[int, ...]
    """[B] the group of each sample."""
    completion_tokens_B: tuple[int, ...]
    """[B] tokens of each completion."""


@dataclass(frozen=True, kw_only=True)
class TokenBatch:
    """One microbatch as a loss sees it; columns are tokens, padded anyhow outside the mask."""

    logprobs_BT: mx.array
    """[B, T] nats, under the learner's current policy; gradients flow."""
    behaviour_logprobs_BT: mx.array
    """[B, T] nats, under the policy that sampled the token."""
    advantages: mx.array
    """[B] or [B, T], as `Algorithm.advantages` gave them."""
    mask_BT: mx.array
    """[B, T] True where a token of a completion is trained on; False for all of a masked sample."""
    ref_logprobs_BT: mx.array | None = None
    """[B, T] nats, under the frozen reference model; None unless the run has one."""


@dataclass(frozen=True, kw_only=True)
class StepTotals:
    """Denominators of the whole step; every microbatch gets the same ones."""

    num_tokens: int
    """True entries of all masks."""
    num_sequences: int
    """Completions with a True entry."""
    max_completion_tokens: int
    """The config's bound on a completion: the same for all steps."""


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """The parts that an algorithm chose."""

    advantages: Callable[[BatchRewards], NDArray[np.float32]]
    """Batch -> [B], or [B, T] with the completion's token t in column t and any padding; 0 for
    masked samples. It sees the whole batch, for algorithms that look beyond one group."""
    loss: Callable[[TokenBatch, StepTotals], tuple[mx.array, Metrics]]
    """Microbatch -> its part of the step's loss, and metrics as sums over its tokens. Both add up
    over microbatches; a metric's sum is divided by `num_tokens` at the end of the step."""


algorithm: Registry[Callable[..., Algorithm]] = Registry("algorithm", "learner.algorithms")
"""Decorator and table of all algorithms."""


def make_algorithm(section: AlgorithmSection) -> Algorithm:
    """Algorithm that a config's section names.

    Raises:
        UnknownPluginError: no algorithm of that name.
        ConfigError: a parameter that it does not take, or a value that its annotations refuse.
    """
    plugin = algorithm.check(section.name, section.parameters, frozenset())
    try:
        checked = validate_call(config={"arbitrary_types_allowed": True})(plugin)
        return checked(**section.parameters)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"algorithm {section.name!r}: {place} = {first['input']!r}: {first['msg']}"
        ) from error
