"""Which checkpoint is exported, and the proof that it is whole."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from learner.checkpoints.contents import ARRAYS, GROUPS, STATE
from learner.checkpoints.manifest import read_manifest
from learner.checkpoints.retention import checkpoints_in, step_of
from learner.checkpoints.state import State, parse_state
from learner.run_folder import config_of
from protocol.config import RunConfig
from protocol.errors import CheckpointError, ConfigError

log = logging.getLogger("learner.export")

BEST = "best"
LATEST = "latest"
BEST_FILE = "best.json"
"""In the folder of the checkpoints: which of them evaluated best."""

_NOT_EXPORTED = frozenset({ARRAYS, GROUPS})
"""What only a resumed run reads: large, and no matter here if it is damaged."""


class Best(BaseModel):
    """What best.json says."""

    model_config = ConfigDict(frozen=True)
    step: int = Field(ge=0)
    evaluator: str
    figure: str
    value: float


@dataclass(frozen=True)
class Source:
    """A whole checkpoint and its run."""

    run_dir: Path
    checkpoint: Path
    step: int
    config: RunConfig
    """What the steps before it were taken with."""
    tuning: str
    facts: Mapping[str, str]
    """As the checkpoint has them."""
    files: frozenset[str]
    """Every file of the checkpoint that matched its digest."""
    best: Best | None
    """None where the run kept no best checkpoint."""


def find_source(given: Path, wanted: str | None = None) -> Source:
    """Find the checkpoint to export and compare its files with their digests.

    Args:
        given: a run folder, or a checkpoint in one.
        wanted: `best`, `latest` or a step; None is the best one where the run kept one, else the
            newest that is whole.

    Raises:
        ConfigError: no such run or checkpoint, or it is damaged.
    """
    run_dir, own_step = _run_of(given)
    if own_step is not None:
        if wanted is not None:
            raise ConfigError(
                f"{given} is the checkpoint of step {own_step}: leave --step out, or give the run "
                f"folder {run_dir}"
            )
        wanted = str(own_step)
    found = checkpoints_in(run_dir / "checkpoints")
    if not found:
        raise ConfigError(f"{run_dir} has no checkpoint yet: let the run reach its first one")
    best = _read_best(run_dir / "checkpoints" / BEST_FILE)
    step = _step(wanted, best, found, run_dir)
    step, state, files = _newest_whole(found) if step is None else _whole(found, step)
    epoch = state.facts.get("run_epoch", "")
    config = config_of(run_dir, int(epoch) if epoch.isdecimal() else None)
    return Source(run_dir, found[step], step, config, state.tuning, state.facts, files, best)


def _run_of(given: Path) -> tuple[Path, int | None]:
    """The run folder, and the step where a checkpoint was given."""
    if not given.is_dir():
        found = f"{given} is a file" if given.exists() else f"there is no run folder {given}"
        raise ConfigError(f"{found}: give a run folder, such as runs/quickstart")
    path = given.absolute()
    if path.parent.name == "checkpoints" and step_of(path) >= 0:
        run_dir, step = path.parent.parent, step_of(path)
    else:
        run_dir, step = given, None
    if not (run_dir / "config.yaml").is_file():
        raise ConfigError(
            f"{run_dir} is no run folder, it has no config.yaml: give one, such as "
            "runs/quickstart, or a checkpoint in one"
        )
    return run_dir, step


def _read_best(path: Path) -> Best | None:
    if not path.is_file():
        return None
    try:
        return Best.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise ConfigError(
            f"{path} is damaged: delete it, and give --step latest or the number of a step"
        ) from None


def _step(
    wanted: str | None, best: Best | None, found: Mapping[int, Path], run_dir: Path
) -> int | None:
    """The step that is asked for; None for the newest whole one."""
    if wanted == LATEST or (wanted is None and best is None):
        return None
    if wanted in (None, BEST):
        if best is None:
            raise ConfigError(
                f"{run_dir} kept no best checkpoint (there is no {BEST_FILE}): give --step latest "
                f"or one of {_listed(found)}"
            )
        step = best.step
    elif re.fullmatch(r"(step_)?[0-9]{1,12}", wanted):
        step = int(wanted.removeprefix("step_"))
    else:
        raise ConfigError(f"--step {wanted}: wanted best, latest or the number of a step")
    if step not in found:
        raise ConfigError(f"{run_dir} has no checkpoint of step {step}: there are {_listed(found)}")
    return step


def _newest_whole(found: Mapping[int, Path]) -> tuple[int, State, frozenset[str]]:
    damaged: list[str] = []
    for step, path in sorted(found.items(), reverse=True):
        try:
            state, files = _check(path, step)
        except CheckpointError as error:
            damaged.append(f"checkpoint {path} is damaged: {error}")
            continue
        for text in damaged:
            log.warning("%s; exporting step %d instead", text, step)
        return step, state, files
    raise ConfigError(f"no checkpoint is whole: {'; '.join(damaged)}")


def _whole(found: Mapping[int, Path], step: int) -> tuple[int, State, frozenset[str]]:
    try:
        return step, *_check(found[step], step)
    except CheckpointError as error:
        whole = {
            each: path for each, path in found.items() if each != step and _is_whole(path, each)
        }
        raise ConfigError(
            f"checkpoint {found[step]} is damaged: {error}. Whole are {_listed(whole)}"
        ) from None


def _check(path: Path, step: int) -> tuple[State, frozenset[str]]:
    """Compare what is exported with what was written.

    Raises:
        CheckpointError: a file is missing or is another.
    """
    manifest = read_manifest(path)
    files = frozenset(manifest.files) - _NOT_EXPORTED
    for name in sorted(files | {STATE}):
        manifest.check_digest(path, name)
    try:
        return parse_state((path / STATE).read_bytes(), step), files
    except OSError as error:
        raise CheckpointError(f"{STATE} cannot be read: {error.strerror}") from None


def _is_whole(path: Path, step: int) -> bool:
    try:
        _check(path, step)
    except CheckpointError:
        return False
    return True


def _listed(found: Mapping[int, Path]) -> str:
    return ", ".join(map(str, found)) or "none"
