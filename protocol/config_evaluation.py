"""The config's sections of evaluation, and which rewards score what."""

import re
from collections.abc import Mapping

from pydantic import Field, model_validator

from protocol.config_data import Source, refuse_weights
from protocol.config_section import PluginConfig, RewardConfig, Section
from protocol.fields import MAX_GROUP_SIZE, MAX_TOKENS

RUN_REWARDS = ""
"""How a ScoreTask names the run's own rewards."""
KEEP_BEST = re.compile(r"(-?)([^-/].*|-.+)/([^/]+)")
"""`evaluator/figure`; with `-` in front, smaller is better."""


class EvaluatorConfig(PluginConfig):
    """One evaluator: `{name, num_samples, temperature, data, rewards, **parameters}`."""

    num_samples: int = Field(default=1, gt=0, le=MAX_GROUP_SIZE)
    """Completions of each held-out prompt."""
    temperature: float = Field(default=0.0, ge=0.0, le=10.0, allow_inf_nan=False)
    """0 is greedy."""
    max_completion_tokens: int | None = Field(default=None, gt=0, le=MAX_TOKENS)
    """None: as in `generation`."""
    data: tuple[Source, ...] | None = None
    """Sources of its own, as in `data.heldout`. None: the evaluator's own, if it has some; where
    neither names any, data.heldout."""
    rewards: tuple[RewardConfig, ...] | None = None
    """Rewards of its own, as in `rewards`; None and empty in the same way."""

    @model_validator(mode="after")
    def _data_has_no_weights(self) -> "EvaluatorConfig":
        refuse_weights(self.data or (), f"data of evaluator {self.name}")
        return self

    @model_validator(mode="after")
    def _samples_differ(self) -> "EvaluatorConfig":
        if self.num_samples > 1 and not self.temperature:
            raise ValueError(
                f"evaluator {self.name} has num_samples {self.num_samples} at temperature 0, where "
                "all samples are the same: set its temperature, or num_samples to 1"
            )
        return self


class EvaluationSection(Section):
    """Evaluation on prompts that are never trained on."""

    interval: int = Field(default=0, ge=0)
    """Steps between evaluations; 0 evaluates only before and after training."""
    before_training: bool = True
    """Evaluate version 0, to compare with."""
    evaluators: tuple[EvaluatorConfig, ...] = (EvaluatorConfig(name="accuracy"),)
    """Plug-ins of learner/evaluators/: `{name, num_samples, temperature, max_completion_tokens,
    data, rewards, **parameters}`. num_samples (1) completions of each prompt at temperature (0:
    greedy), of data (data.heldout) scored by rewards (the run's)."""


class CheckpointSection(Section):
    """When weights are saved, and how many copies stay."""

    interval: int = Field(default=10, ge=0)
    """Steps between checkpoints; 0 saves only at the end."""
    keep_last: int = Field(default=3, gt=0)
    """Older ones are deleted."""
    keep_interval: int = Field(default=0, ge=0)
    """Checkpoints of steps that this divides are never deleted; 0 is none."""
    keep_best: str = ""
    """`evaluator/figure` (`accuracy/accuracy`): the checkpoint with the highest is saved and kept;
    `-evaluator/figure` with the lowest."""


def refuse_unknown_best(keep_best: str, section: EvaluationSection) -> None:
    """Raise ValueError unless `checkpoints.keep_best` names a configured evaluator's figure."""
    if not keep_best:
        return
    names = [evaluator.name for evaluator in section.evaluators]
    found = KEEP_BEST.fullmatch(keep_best)
    if found is None or found[2] not in names:
        raise ValueError(
            f"checkpoints.keep_best {keep_best!r}: wanted evaluator/figure, such as "
            f"accuracy/accuracy, of one of the evaluators {', '.join(names) or '(none)'}"
        )


def reward_sets(
    rewards: tuple[RewardConfig, ...], section: EvaluationSection
) -> Mapping[str, tuple[RewardConfig, ...]]:
    """Every list of rewards that scores something, by the name that a ScoreTask has for it.

    The run's own stand under RUN_REWARDS, those of an evaluator under the name of the first
    evaluator that has the same.
    """
    sets = {RUN_REWARDS: rewards}
    for evaluator in section.evaluators:
        if evaluator.rewards and evaluator.rewards not in sets.values():
            sets[evaluator.name] = evaluator.rewards
    return sets
