"""From a checkpoint back to a run."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from learner.checkpoints.arrays import load_arrays
from learner.checkpoints.contents import ARRAYS, GROUPS, STATE
from learner.checkpoints.groups import unpack_groups
from learner.checkpoints.manifest import Manifest, read_manifest
from learner.checkpoints.position import Position
from learner.checkpoints.retention import checkpoints_in
from learner.ledger.snapshot import Snapshot
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
    for path in reversed(found.values()):
        try:
            restored = _restore(path, parameters, config)
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
        return _restore(found[step], parameters, config)
    except CheckpointError as error:
        others = ", ".join(str(number) for number in found if number != step) or "none"
        raise CheckpointError(
            f"checkpoint {found[step]} is damaged: {error}. Resume from another step: there are "
            f"{others}"
        ) from None


def _restore(path: Path, parameters: Parameters, config: RunConfig) -> Restored:
    """Check everything before anything is changed."""
    manifest = read_manifest(path)
    state = _read_state(path, manifest)
    _refuse_contradiction(path, state, config)
    for name in manifest.files:
        manifest.check_digest(path, name)
    try:
        snapshot = Snapshot.from_json(state["ledger"])
        facts = {str(name): str(fact) for name, fact in state["facts"].items()}
        position = Position(int(state["step"]), int(state["policy_version"]), snapshot)
        scored = unpack_groups((path / GROUPS).read_bytes())
        arrays = load_arrays(path / ARRAYS)
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"it cannot be read: {error!r}") from None
    try:
        parameters.restore(arrays)
    except CheckpointError as error:
        raise ConfigError(f"{path} does not fit this run: {error}") from None
    return Restored(replace(position, snapshot=replace(snapshot, scored=scored)), path, facts)


def _read_state(path: Path, manifest: Manifest) -> dict[str, Any]:
    for name in (STATE, ARRAYS, GROUPS):
        manifest.check_size(path, name)
    manifest.check_digest(path, STATE)
    try:
        return json.loads((path / STATE).read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{STATE} cannot be read: {error}") from None


def _refuse_contradiction(path: Path, state: Mapping[str, Any], config: RunConfig) -> None:
    found = (state.get("tuning"), state.get("model"))
    wanted = (config.learner.tuning, config.model.path)
    if found != wanted:
        raise ConfigError(
            f"{path} is of {found[0]} tuning of {found[1]}, the config asks for {wanted[0]} "
            f"tuning of {wanted[1]}: use the config it was made with"
        )
