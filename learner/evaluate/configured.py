"""Options of mlx-eval -> the config of a run that evaluates once and trains nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from learner.evaluate.ports import free_ports
from protocol.config import RunConfig
from protocol.config_file import load_config, validated
from protocol.errors import ConfigError

LIGHTEST_ADAPTERS = {"rank": 1, "layers": 1}
"""Adapters that are not trained change nothing; without any, the learner would keep the whole model
for training and send it to the actors, and a quantised one would be refused."""


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for, models apart."""

    evaluators: Sequence[str]
    """Names, or YAML mappings such as `{name: pass_at_k, k: [1, 5], num_samples: 10}`."""
    data: Sequence[str] = ()
    """Sources of prompts; empty: the config's held-out ones, or the evaluator's own."""
    rewards: Sequence[str] = ()
    """The same of rewards."""
    config: Path | None = None
    """A run's config, of which model, data, rewards and generation are taken."""
    overrides: Sequence[str] = ()
    """`a.b=c`."""
    num_actors: int = 1


def evaluation_config(wanted: Wanted, model: str, name: str) -> RunConfig:
    """The config of an evaluation of one model.

    Args:
        wanted: the rest of the command line.
        model: as `model.path`.
        name: of the run.

    Raises:
        ConfigError: something in it is wrong, in one sentence.
    """
    tree = _base(wanted.config, model)
    tree["run"] = {**tree.get("run", {}), "name": name, "max_steps": 0}
    tree["model"] = {**tree.get("model", {}), "path": model}
    tree["data"] = {**tree.get("data", {}), "train": []}
    if wanted.data:
        tree["data"]["heldout"] = [_plugin(text, "data") for text in wanted.data]
    if wanted.rewards:
        tree["rewards"] = [_section(text, "reward") for text in wanted.rewards]
    tree["evaluation"] = {"evaluators": [_section(text, "evaluator") for text in wanted.evaluators]}
    tree["learner"] = {**tree.get("learner", {}), "tuning": "lora", "lora": LIGHTEST_ADAPTERS}
    tree["policy"] = {**tree.get("policy", {}), "weight_dtype": "float32"}
    tree["roles"] = {"actor": wanted.num_actors, "reward_worker": 1}
    tree["network"] = {"port": free_ports(4), "http_port": 0}
    tree["checkpoints"], tree["report_to"] = {}, []
    return validated(tree, wanted.overrides)


def _base(config: Path | None, model: str) -> dict[str, Any]:
    if config is None:
        return {}
    return load_config(config, [f"model.path={model}"]).model_dump(mode="json", exclude_unset=True)


def _section(text: str, what: str) -> dict[str, Any]:
    found = _plugin(text, what)
    section = {"name": found} if isinstance(found, str) else found
    if not isinstance(section.get("name"), str):
        raise ConfigError(
            f"--{what} {text}: no name in it: wanted a name, or a mapping such as "
            "{name: pass_at_k, k: [1, 5], num_samples: 10}"
        )
    return section


def _plugin(text: str, what: str) -> Any:  # noqa: ANN401 - a name or a section
    """A text, or the mapping that it is in YAML."""
    if not text.lstrip().startswith("{"):
        return text
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--{what} {text}: not YAML: {reason}") from None
    if not isinstance(found, Mapping):
        raise ConfigError(f"--{what} {text}: wanted a name or a mapping")
    return dict(found)
