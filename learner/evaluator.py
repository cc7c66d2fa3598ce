"""What an evaluator is: scored held-out completions in, figures out.

To add one, add learner/evaluators/<name>.py with a function decorated by `@evaluator("<name>")`: it
takes the completions, and by keyword what a config may set.
"""

from collections.abc import Callable, Sequence
from functools import partial

from learner.samples import ScoredSample
from protocol.config_section import PluginConfig
from protocol.registry import Registry

Evaluate = Callable[[Sequence[ScoredSample]], dict[str, float]]

evaluator: Registry[Callable[..., dict[str, float]]] = Registry("evaluator", "learner.evaluators")
"""Decorator and table of all evaluators."""


def make_evaluator(section: PluginConfig) -> Evaluate:
    """Evaluator that a config's section names, with its parameters bound.

    Raises:
        UnknownPluginError: no evaluator of that name.
        ConfigError: a parameter that it does not take.
    """
    plugin = evaluator.check(section.name, section.parameters, frozenset({"samples"}))
    return partial(plugin, **section.parameters)
