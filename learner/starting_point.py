"""Where a run begins: at step 0, or at a checkpoint that fits it."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from learner.checkpoints.position import Position
from learner.checkpoints.restore import Restored, restore_checkpoint
from learner.checkpoints.retention import set_aside
from learner.data.sources import Row
from learner.fork import fork_run
from learner.ledger.snapshot import Snapshot
from learner.parameters import Parameters
from learner.resume import Resume
from learner.run_folder import RunFolder
from protocol.config import RunConfig
from protocol.errors import ConfigError
from protocol.fingerprint import fingerprint
from protocol.weights import digest_of

log = logging.getLogger("learner.starting_point")


@dataclass(frozen=True)
class StartingPoint:
    """Where a run begins, and which checkpoint that was read from."""

    position: Position
    checkpoint: Path | None = None


def find_start(
    resume: Resume | None,
    folder: RunFolder,
    parameters: Parameters,
    config: RunConfig,
    facts: Mapping[str, str],
) -> StartingPoint:
    """Restore the checkpoint that is asked for, or begin at step 0.

    Args:
        resume: None for a new run.
        folder: the run's own.
        parameters: take the checkpoint's arrays.
        config: the run.
        facts: `checkpoint_facts` of this start, to compare with the checkpoint's.

    Raises:
        ConfigError: there is no such checkpoint, or it was made of other prompts, or (deterministic
            runs) on another kind of machine.
        CheckpointError: it is damaged.
    """
    beginning = StartingPoint(Position(0, 0, Snapshot()))
    if resume is None:
        return beginning
    checkpoints = RunFolder(resume.source or folder.path).checkpoints
    restored = restore_checkpoint(checkpoints, parameters, config, resume.step)
    if restored is None and resume.source is not None:
        raise ConfigError(f"{resume.source} has no checkpoint yet, so there is nothing to begin at")
    if restored is None:
        log.warning("no checkpoint in %s: resuming from step 0", checkpoints)
        return beginning
    _refuse_other_prompts(restored, facts)
    if config.run.deterministic and resume.source is None:
        _refuse_other_machine(restored)
    log.info("resuming after step %d", restored.position.step)
    return StartingPoint(_without_outdated_groups(restored, facts), restored.path)


def take_folder(
    folder: RunFolder, resume: Resume | None, start: StartingPoint, config: RunConfig
) -> int:
    """Make the run folder, or make it what it was at the start; returns the new run epoch.

    Later checkpoints are out of the way before records are cut back, so that a crash in between
    leaves none whose records are gone.

    Raises:
        ConfigError: the folder cannot be written, or another learner runs in it.
    """
    if resume is not None and resume.source is not None and start.checkpoint is not None:
        fork_run(resume.source, start.checkpoint, start.position.step, folder.path)
    folder.create(config, resume=resume is not None)
    run_epoch = folder.next_run_epoch()
    folder.keep_config(config, run_epoch)
    aside = folder.path / "aside" / f"run_epoch_{run_epoch:06d}"
    if start.checkpoint is not None:
        set_aside(folder.checkpoints, start.position.step, aside)
    step = start.position.step or -1  # at step 0 even its evaluation is done again
    folder.cut_back(step, aside)
    if aside.exists():
        log.warning(
            "everything of steps after %d is in %s now, and they are trained again; delete that "
            "folder when you like",
            *(max(step, 0), aside),
        )
    return run_epoch


def checkpoint_facts(config: RunConfig, train: Sequence[Row]) -> dict[str, str]:
    """What a checkpoint says of how it came to be, besides its position and its run epoch."""
    prompts = [[row.prompt_id, row.prompt, row.columns] for row in train]
    return {
        "prompts": _digest(prompts),
        "sampling": _digest(
            [config.generation.model_dump(), [reward.model_dump() for reward in config.rewards]]
        ),
        "fingerprint": json.dumps(fingerprint()),
    }


def _digest(value: object) -> str:
    return digest_of(json.dumps(value, sort_keys=True).encode())


def _refuse_other_prompts(restored: Restored, facts: Mapping[str, str]) -> None:
    if restored.facts.get("prompts") != facts["prompts"]:
        raise ConfigError(
            f"{restored.path} was made of other training prompts than data.train has now: which of "
            "them were trained on could not be told. Put the old rows back, or begin a new run"
        )


def _refuse_other_machine(restored: Restored) -> None:
    before, now = json.loads(restored.facts.get("fingerprint", "{}")), fingerprint()
    differ = [
        f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    if differ:
        raise ConfigError(
            f"{restored.path} is of a deterministic run on another kind of machine, where the same "
            f"step ends in other bytes: {'; '.join(differ)}. Resume it where it was, or fork it "
            "with --resume FOLDER and another --run-dir"
        )


def _without_outdated_groups(restored: Restored, facts: Mapping[str, str]) -> Position:
    """Groups that were sampled or scored with other settings are generated again."""
    position = restored.position
    kept = position.snapshot.scored
    if kept and restored.facts.get("sampling") != facts["sampling"]:
        log.info("%d scored groups are generated again: the settings have changed", len(kept))
        return replace(position, snapshot=replace(position.snapshot, scored=()))
    return position
