"""Which run a learner may continue, and from where."""

from pathlib import Path
from typing import Any

from protocol.config import RunConfig
from protocol.config_file import load_config
from protocol.errors import ConfigError

PINNED = (
    "run.seed",
    "model",
    "policy.weight_dtype",
    "data.train",
    "data.prompt_column",
    "data.epochs",
    "generation.group_size",
    "learner.tuning",
    "learner.lora",
    "learner.groups_per_step",
)
"""What a resumed run must share with its checkpoints and its ledger."""


def refuse_existing(path: Path, *, resume: bool) -> None:
    """Let nobody write into another run's folder by accident.

    Raises:
        ConfigError: the folder exists and the run is not resumed, or the reverse.
    """
    if path.exists() and not path.is_dir():
        raise ConfigError(f"the run folder {path} is a file: choose another with --run-dir")
    exists = path.is_dir() and any(path.iterdir())
    if exists and not resume:
        raise ConfigError(
            f"the run folder {path} exists: continue that run with --resume, or choose another "
            "folder with --run-dir or --set run.name=..."
        )
    if resume and not exists:
        raise ConfigError(f"there is no run folder {path} to resume: leave --resume out")


def refuse_contradiction(path: Path, config: RunConfig) -> None:
    """Let a run be resumed only with what its checkpoints and its ledger were made with.

    Raises:
        ConfigError: a pinned key differs from the folder's config.yaml; all of them are named.
    """
    if not (path / "config.yaml").is_file():
        return
    before = load_config(path / "config.yaml").model_dump(mode="json")
    now = config.model_dump(mode="json")
    differ = [
        f"{key} was {_at(before, key)!r} and is {_at(now, key)!r}"
        for key in PINNED
        if _at(before, key) != _at(now, key)
    ]
    if differ:
        raise ConfigError(
            f"cannot resume {path} with another config: {'; '.join(differ)}. To go on as before, "
            f"give --config {path / 'config.yaml'}"
        )


def _at(tree: dict[str, Any], dotted: str) -> Any:  # noqa: ANN401 - any config value
    value: Any = tree
    for key in dotted.split("."):
        value = value[key]
    return value
