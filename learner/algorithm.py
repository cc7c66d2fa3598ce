"""What an algorithm is: a few functions, chosen by name.

The learner's loop calls them and never learns the name:

    rewards of a batch -> algorithm.advantages -> microbatches -> algorithm.loss -> one step

It chooses and names parts that are pure functions: learner/advantages/ and learner/losses/.

To add one, add learner/algorithms/<name>.py with a function decorated by `@algorithm("<name>")`:
its keyword arguments are what a config may set, with the bounds that their annotations give.
"""

from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError, validate_call

from learner.losses.ratios import Metrics
from protocol.config_learner import AlgorithmSection
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
    max_completion_tokens: int
    """The config's bound on a completion."""
    values_BT: NDArray[np.float32] | None = None
    """[B, T] the critic's estimate before each token, 0 in the padding; None without a critic."""


@dataclass(frozen=True, kw_only=True)
class TokenBatch:
    """One microbatch as a loss sees it: rows are completions, column t is completion token t.

    Nothing outside the mask means anything: a loss must not let it reach a value or a gradient.
    """

    logprobs_BT: mx.array
    """[B, T] nats, under the learner's current policy; gradients flow."""
    behaviour_logprobs_BT: mx.array
    """[B, T] nats, under the policy that sampled the token."""
    proximal_logprobs_BT: mx.array
    """[B, T] nats, under the learner's policy before the batch's first optimizer step; no gradient
    flows. In that first step it has the value of `logprobs_BT`."""
    entropy_BT: mx.array
    """[B, T] nats, of the learner's current policy at each token; gradients flow."""
    staleness_BT: mx.array
    """[B, T] the learner's policy version less that of the policy that sampled the token."""
    advantages: mx.array
    """[B, T] those of `Algorithm.advantages`, at every token of a completion where it gave [B]."""
    mask_BT: mx.array
    """[B, T] True where a token of a completion is trained on; a row is a whole completion."""
    ref_logprobs_BT: mx.array | None = None
    """[B, T] nats, under the frozen reference model; None unless the algorithm wants one."""
    values_BT: mx.array | None = None
    """[B, T] the critic's current estimates; gradients flow. None without a critic."""
    old_values_BT: mx.array | None = None
    """[B, T] the critic's estimates before the batch's first optimizer step."""
    returns_BT: mx.array | None = None
    """[B, T] as `Algorithm.returns` gave them."""


@dataclass(frozen=True, kw_only=True)
class StepTotals:
    """Denominators of one optimizer step; every microbatch gets the same ones."""

    num_tokens: int
    """Tokens of all completions that are not masked, also of those that were left out of compute
    because their advantages are 0."""
    num_sequences: int
    """Completions with such a token."""
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
    over microbatches; a metric's sum is divided by the tokens computed at the end of the step."""
    returns: Callable[[BatchRewards], NDArray[np.float32]] | None = None
    """Batch -> [B, T] what the critic learns to predict; None: the algorithm has no critic."""
    epochs: int = 1
    """How often each batch is gone through."""
    minibatches: int = 1
    """Optimizer steps in one epoch, each on its share of the batch's completions."""
    needs_reference: bool = False
    """Whether the loss wants `ref_logprobs_BT`."""
    entropy_teaches: bool = False
    """Whether the loss has a gradient through `entropy_BT`; without one it is cheaper."""
    zero_advantages_teach: bool = False
    """Whether a completion without advantage has a gradient all the same: by a KL penalty, an
    entropy bonus or a critic. Where it has none, it is left out of compute."""


algorithm: Registry[Callable[..., Algorithm]] = Registry("algorithm", "learner.algorithms")
"""Decorator and table of all algorithms."""


def make_algorithm(section: AlgorithmSection) -> Algorithm:
    """Algorithm that a config's section names.

    Raises:
        UnknownPluginError: no algorithm of that name.
        ConfigError: a parameter that it does not take, a value that its annotations refuse, or
            something else than an Algorithm in return.
    """
    plugin = algorithm.check(section.name, section.parameters, frozenset())
    try:
        checked = validate_call(config={"arbitrary_types_allowed": True})(plugin)
        made = checked(**section.parameters)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            said = "there is no such key; the algorithm's docstring lists its parameters"
        raise ConfigError(
            f"algorithm {section.name!r}: {place} = {first['input']!r}: {said}"
        ) from error
    if not isinstance(made, Algorithm):
        raise ConfigError(
            f"algorithm {section.name!r} returned {type(made).__name__}, wanted an Algorithm "
            "(learner/algorithm.py says what that is)"
        )
    return made
