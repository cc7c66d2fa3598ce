"""From a checkpoint back to a run."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from learner.checkpoints.arrays import load_arrays
from learner.checkpoints.contents import ARRAYS, GROUPS, STATE
from learner.checkpoints.groups import check_groups, unpack_groups
from learner.checkpoints.manifest import read_manifest
from learner.checkpoints.position import Position
from learner.checkpoints.retention import checkpoints_in
from learner.checkpoints.state import State, parse_state
from learner.parameters import Parameters
from protocol.config import RunConfig
from protocol.errors import CheckpointError, ConfigError

log = logging.getLogger("learner.checkpoints")


@dataclass(frozen=True)
class Restored:
    """Where a run goes on; the arrays are in its parameters already."""

    position: Position
    path: Path
    """The checkpoint."""
    facts: Mapping[str, str]
    """As they were given to the writer."""


def restore_checkpoint(
    folder: Path, parameters: Parameters, config: RunConfig, step: int | None = None
) -> Restored | None:
    """Load the newest whole checkpoint of a run, or that of a step; None where there is none yet.

    Nothing is written, so a folder may be another run's.

    Raises:
        ConfigError: it belongs to another model or kind of training, or `step` has none.
        CheckpointError: the one of `step` is damaged, or none of several is whole.
    """
    found = checkpoints_in(folder)
    if step is not None:
        return _of_step(found, step, folder, parameters, config)
    damaged: list[str] = []
    for number, path in reversed(found.items()):
        try:
            restored = _restore(path, number, parameters, config)
        except CheckpointError as error:
            damaged.append(f"checkpoint {path} is damaged: {error}")
            continue
        for text in damaged:
            log.warning("%s; using %s instead", text, path)
        return restored
    if damaged:
        raise CheckpointError(
            f"none of the {len(damaged)} checkpoints in {folder} is whole: {'; '.join(damaged)}. "
            "Move them away to begin again at step 0"
        )
    return None


def _of_step(
    found: Mapping[int, Path], step: int, folder: Path, parameters: Parameters, config: RunConfig
) -> Restored:
    if step not in found:
        there = ", ".join(map(str, found)) or "none"
        raise ConfigError(f"{folder} has no checkpoint of step {step}: there are {there}")
    try:
        return _restore(found[step], step, parameters, config)
    except CheckpointError as error:
        others = ", ".join(str(number) for number in found if number != step) or "none"
        raise CheckpointError(
            f"checkpoint {found[step]} is damaged: {error}. Resume from another step: there are "
            f"{others}"
        ) from None


def _restore(path: Path, step: int, parameters: Parameters, config: RunConfig) -> Restored:
    """Check everything before anything is changed."""
    manifest = read_manifest(path)
    for name in (STATE, ARRAYS, GROUPS):
        manifest.check_size(path, name)
    manifest.check_digest(path, STATE)
    state = parse_state(_read(path / STATE), step)
    _refuse_contradiction(path, state, config)
    for name in manifest.files:
        manifest.check_digest(path, name)
    scored = unpack_groups(_read(path / GROUPS))
    check_groups(scored, state.snapshot, config.generation.group_size)
    try:
        arrays = load_arrays(path / ARRAYS)
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, MemoryError) as error:
        raise CheckpointError(f"{ARRAYS} cannot be read: {error!r}") from None
    try:
        parameters.restore(arrays)
    except CheckpointError as error:
        raise ConfigError(f"{path} does not fit this run: {error}") from None
    snapshot = replace(state.snapshot, scored=scored)
    return Restored(Position(step, state.policy_version, snapshot), path, state.facts)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read: {error.strerror}") from None


def _refuse_contradiction(path: Path, state: State, config: RunConfig) -> None:
    found = (state.tuning, state.model)
    wanted = (config.learner.tuning, config.model.path)
    if found != wanted:
        raise ConfigError(
            f"{path} is of {found[0]} tuning of {found[1]}, the config asks for {wanted[0]} "
            f"tuning of {wanted[1]}: use the config it was made with"
        )
