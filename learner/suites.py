"""Suites: evaluators that complete and score the same prompts in the same way share one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from learner.evaluator import traits_of
from protocol.config import RunConfig
from protocol.config_evaluation import RUN_REWARDS, EvaluatorConfig, reward_sets
from protocol.errors import ConfigError


@dataclass(frozen=True)
class Suite:
    """What evaluators that share their completions have in common."""

    data: tuple[Any, ...]
    """Sources of prompts."""
    reward_set: str = RUN_REWARDS
    """Which rewards score the completions: see `reward_sets`."""
    num_samples: int = 1
    """Completions of each prompt."""
    temperature: float = 0.0
    """0 is greedy."""
    max_completion_tokens: int = 256


def with_presets(config: RunConfig) -> RunConfig:
    """The config with the data and rewards that its evaluators bring along.

    A config that came out of here comes out again as it is.

    Raises:
        UnknownPluginError: no evaluator of some name.
    """
    sections = tuple(_with_presets(section) for section in config.evaluation.evaluators)
    evaluation = config.evaluation.model_copy(update={"evaluators": sections})
    return config.model_copy(update={"evaluation": evaluation})


def resolve_evaluators(config: RunConfig) -> RunConfig:
    """`with_presets`, once every evaluator has what it needs.

    Raises:
        UnknownPluginError: no evaluator of some name.
        ConfigError: as for `refuse_idle_evaluators`.
    """
    resolved = with_presets(config)
    refuse_idle_evaluators(resolved)
    return resolved


def data_of(config: RunConfig, section: EvaluatorConfig) -> tuple[Any, ...]:
    """The sources of an evaluator's prompts; empty where the run has none for it."""
    return section.data or tuple(config.data.heldout)


def suite_of(config: RunConfig, section: EvaluatorConfig) -> Suite | None:
    """The suite of an evaluator; None for one that has no prompts, or wants no completions."""
    data = data_of(config, section)
    if not data or not traits_of(section.name).generates:
        return None
    rewards = section.rewards or config.rewards
    sets = reward_sets(config.rewards, config.evaluation)
    return Suite(
        data,
        next(name for name, found in sets.items() if found == rewards),
        section.num_samples,
        section.temperature,
        section.max_completion_tokens or config.generation.max_completion_tokens,
    )


def suites_of(config: RunConfig) -> Sequence[Suite]:
    """Every suite of a resolved config, once, in the order of its evaluators."""
    suites: list[Suite] = []
    for section in config.evaluation.evaluators:
        suite = suite_of(config, section)
        if suite is not None and suite not in suites:
            suites.append(suite)
    return suites


def refuse_idle_evaluators(config: RunConfig) -> None:
    """Refuse an evaluation alone in which an evaluator would have nothing to say.

    Args:
        config: as `with_presets` gives it. A training whose evaluators have no held-out prompts
            trains all the same.

    Raises:
        ConfigError: an evaluator without prompts, or whose completions nothing would score.
    """
    for section in config.evaluation.evaluators:
        if not config.run.max_steps and not data_of(config, section):
            raise ConfigError(
                f"evaluator {section.name} has no prompts: name some in data.heldout "
                "(mlx-eval --data SOURCE)"
            )
        if suite_of(config, section) and not (section.rewards or config.rewards):
            raise ConfigError(
                f"evaluator {section.name} has no rewards to judge by: name some in rewards, such "
                "as exact_match (mlx-eval --reward NAME)"
            )


def _with_presets(section: EvaluatorConfig) -> EvaluatorConfig:
    traits = traits_of(section.name)
    found: dict[str, Any] = {}
    if section.data is None:
        found["data"] = traits.data
    if section.rewards is None:
        found["rewards"] = traits.rewards
    return section.model_copy(update=found)
