"""What an evaluator is: scored held-out completions in, figures out.

To add one, add learner/evaluators/<name>.py with a function decorated by `@evaluator("<name>")`: it
takes the completions, and by keyword what a config may set. A keyword argument `policy` is not the
config's: it is the learner's own policy (PolicyView). With `generates=False` the function takes
prompts instead of completions, and nothing is generated for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from protocol.config import RewardConfig
from protocol.config_evaluation import EvaluatorConfig
from protocol.errors import ConfigError
from protocol.plugin_values import checked_value, signature_of
from protocol.registry import Registry

POLICY = "policy"
"""The parameter by which an evaluator asks for the learner's policy."""
_TRAITS = "evaluator_traits"

Evaluator = Callable[..., dict[str, float]]


class Tokenizer(Protocol):
    """What an evaluator may use of the policy's tokenizer."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text."""
        ...


@dataclass(frozen=True)
class PolicyView:
    """The learner's policy, as an evaluator may look at it."""

    logprobs: Callable[
        [Sequence[NDArray[np.int32]], Sequence[NDArray[np.int32]]], list[NDArray[np.float32]]
    ]
    """Prompts and as many completions, as token ids -> [T] nats of each completion's tokens."""
    tokenizer: Tokenizer


@dataclass(frozen=True)
class Traits:
    """What an evaluator says of itself besides its signature."""

    data: tuple[Any, ...] = ()
    """Its own sources of prompts, where a config names none; empty: data.heldout."""
    rewards: tuple[RewardConfig, ...] = ()
    """Its own rewards, where a config names none; empty: the run's."""
    generates: bool = True
    """Whether it takes completions; else it takes the prompts themselves."""
    check: Callable[..., None] | None = None
    """`check(num_samples, **parameters)` raises ConfigError where they do not fit together."""


class EvaluatorRegistry(Registry[Evaluator]):
    """A registry whose decorator takes an evaluator's traits as well."""

    @override
    def __call__(
        self,
        name: str,
        *,
        data: Sequence[Any] = (),
        rewards: Sequence[Mapping[str, Any]] = (),
        generates: bool = True,
        check: Callable[..., None] | None = None,
    ) -> Callable[[Evaluator], Evaluator]:
        """Decorator that registers an evaluator under `name`, with its traits."""
        register = super().__call__(name)
        checked = tuple(RewardConfig.model_validate(section) for section in rewards)
        traits = Traits(tuple(data), checked, generates, check)

        def mark(plugin: Evaluator) -> Evaluator:
            setattr(plugin, _TRAITS, traits)
            return register(plugin)

        return mark


evaluator = EvaluatorRegistry("evaluator", "learner.evaluators")
"""Decorator and table of all evaluators."""


def traits_of(name: str) -> Traits:
    """What the evaluator of that name says of itself.

    Raises:
        UnknownPluginError: no evaluator of that name.
    """
    return getattr(evaluator.get(name), _TRAITS, Traits())


@dataclass(frozen=True)
class Evaluate:
    """An evaluator with its parameters."""

    name: str
    function: Evaluator
    parameters: Mapping[str, Any] = field(default_factory=dict[str, Any])
    wants_policy: bool = False

    def __call__(self, found: Sequence[Any], policy: PolicyView | None = None) -> dict[str, float]:
        """Figures of completions, or of prompts where it takes these."""
        given = {POLICY: policy} if self.wants_policy else {}
        return self.function(found, **given, **self.parameters)


def make_evaluator(section: EvaluatorConfig) -> Evaluate:
    """Evaluator that a config's section names, with its parameters bound.

    Raises:
        UnknownPluginError: no evaluator of that name.
        ConfigError: a parameter that it does not take, lacks or cannot use.
    """
    where = f"evaluator {section.name!r}"
    signature = signature_of(evaluator.get(section.name)).parameters
    first = next(iter(signature), "samples")
    plugin = evaluator.check(section.name, section.parameters, frozenset({first, POLICY}))
    for name, taken in signature.items():
        keyword_only = taken.kind is taken.KEYWORD_ONLY and taken.default is taken.empty
        if keyword_only and name not in (POLICY, *section.parameters):
            raise ConfigError(f"{where} needs the parameter {name!r}")
    parameters = {
        name: checked_value(f"{where}: parameter {name!r}", value, signature[name].annotation)
        if name in signature
        else value
        for name, value in section.parameters.items()
    }
    if check := traits_of(section.name).check:
        check(section.num_samples, **parameters)
    return Evaluate(section.name, plugin, parameters, POLICY in signature)
