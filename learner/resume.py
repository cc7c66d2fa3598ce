"""Which run a learner may continue, and from where."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from learner.checkpoints.retention import checkpoints_in
from protocol.config import RunConfig
from protocol.config_file import load_config
from protocol.errors import ConfigError

PINNED = (
    "run.seed",
    "model",
    "policy.weight_dtype",
    "data.train",
    "data.prompt_column",
    "data.order",
    "data.max_prompt_tokens",
    "data.epochs",
    "generation.group_size",
    "learner.tuning",
    "learner.lora",
    "learner.groups_per_step",
)
"""What a resumed run must share with its checkpoints and its ledger."""

PINNED_BITS = (
    "run.deterministic",
    "policy",
    "data.no_resampling_pass_rate",
    "data.pass_reward",
    "generation",
    "rewards",
    "algorithm",
    *(
        f"learner.{key}"
        for key in (
            *("optimizer", "critic_learning_rate", "max_refill_groups"),
            *("filter_zero_advantages", "microbatch_tokens", "logits_chunk_tokens"),
            *("share_prompts", "grad_checkpoint"),
        )
    ),
)
"""What a deterministic run must keep besides, to end in the same bytes."""

LATEST = "latest"
"""What `--resume` means where nothing follows it."""


@dataclass(frozen=True)
class Resume:
    """What `--resume` asks for."""

    step: int | None = None
    """Of the checkpoint to go on from; None is the newest whole one."""
    source: Path | None = None
    """The run folder that this run begins as a copy of; None continues its own."""


def parse_resume(text: str | None, run_dir: Path) -> Resume | None:
    """What follows `--resume`: `latest`, a step, a run folder, or a checkpoint in one.

    Args:
        text: None where the option was not given.
        run_dir: the run's own folder; naming that is no fork.

    Raises:
        ConfigError: it is none of these.
    """
    if not text:
        return None
    if text == LATEST:
        return Resume()
    if re.fullmatch(r"(step_)?[0-9]{1,12}", text):
        return Resume(int(text.removeprefix("step_")))
    step, source = None, Path(text).absolute()
    if source.parent.name == "checkpoints" and source.name.startswith("step_"):
        resume = parse_resume(source.name, run_dir)
        step, source = resume and resume.step, source.parent.parent
    if not (source / "config.yaml").is_file():
        raise ConfigError(
            f"--resume {text}: {source} is no run folder (it has no config.yaml). Wanted: nothing "
            "for the newest checkpoint, a step, a run's folder, or a checkpoint in one"
        )
    own = source.resolve() == run_dir.absolute().resolve()
    return Resume(step, None if own else source)


def check_start(run_dir: Path, resume: Resume | None, config: RunConfig) -> None:
    """Check what can be checked of a run folder before anything is loaded.

    Raises:
        ConfigError: the folder is there and should not be, or the reverse, or a checkpoint was made
            with another config.
    """
    forks = resume is not None and resume.source is not None
    refuse_existing(run_dir, resume=resume is not None and not forks)
    if resume is not None:
        path = resume.source or run_dir
        refuse_contradiction(path, config, forks=forks)
        _refuse_missing(path, resume)


def _refuse_missing(path: Path, resume: Resume) -> None:
    steps = checkpoints_in(path / "checkpoints")
    if resume.source is not None and not steps:
        raise ConfigError(f"{path} has no checkpoint yet, so that nothing can begin there")
    if resume.step is not None and resume.step not in steps:
        there = ", ".join(map(str, steps)) or "none"
        raise ConfigError(f"{path} has no checkpoint of step {resume.step}: there are {there}")


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


def refuse_contradiction(path: Path, config: RunConfig, *, forks: bool = False) -> None:
    """Let a run be resumed only with what its checkpoints and its ledger were made with.

    Args:
        path: the run folder.
        config: what the run is to go on with.
        forks: as another run, whose bytes need not be this one's.

    Raises:
        ConfigError: a pinned key differs from the folder's config.yaml; all of them are named.
    """
    if not (path / "config.yaml").is_file():
        return
    earlier = load_config(path / "config.yaml")
    before, now = earlier.model_dump(mode="json"), config.model_dump(mode="json")
    pinned: list[str] = list(PINNED)
    if not forks and (earlier.run.deterministic or config.run.deterministic):
        pinned += PINNED_BITS
        if {each.learner.optimizer.schedule for each in (earlier, config)} != {"constant"}:
            pinned.append("run.max_steps")  # where the learning rate ends
    differ = [
        found for key in pinned for found in _differences(key, _at(before, key), _at(now, key))
    ]
    if differ:
        raise ConfigError(
            f"cannot {'fork' if forks else 'resume'} {path} with another config: "
            f"{'; '.join(differ)}. To go on as before, give --config {path / 'config.yaml'}"
        )


def _at(tree: dict[str, Any], dotted: str) -> Any:  # noqa: ANN401 - any config value
    value: Any = tree
    for key in dotted.split("."):
        value = value[key]
    return value


def _differences(key: str, before: object, now: object) -> Iterator[str]:
    """What differs in one value, or in the values of a section by their own keys."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted(before.keys() | now.keys()):
            yield from _differences(f"{key}.{name}", before.get(name), now.get(name))
    elif before != now:
        yield f"{key} was {before!r} and is {now!r}"
