"""Checkpoints that mlx_lm.load reads and that a run continues from.

step_000010/
    config.json, tokenizer files     copied from the model
    model.safetensors                the policy (full tuning), rounded to weight_dtype
    adapters.safetensors, adapter_config.json    (lora tuning) for load(..., adapter_path=)
    trainer.safetensors              fp32 masters and the optimizer's state
    trainer.json                     step, policy version, ledger snapshot; written last
"""

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from learner.ledger.snapshot import Snapshot
from learner.masters import Masters
from learner.parameters import Parameters
from learner.run_folder import sync, write_atomically
from protocol.config import RunConfig
from protocol.errors import CheckpointError
from protocol.policy import Policy
from protocol.weights import file_digest

log = logging.getLogger("learner.checkpoint")

_STATE = "trainer.json"
_ARRAYS = "trainer.safetensors"
_WEIGHTS = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".gguf")
"""How the names of files end that a checkpoint does not take over from the model."""


@dataclass(frozen=True)
class Position:
    """Where a run stands: everything but the arrays."""

    step: int
    """Batches that were handed to the trainer."""
    policy_version: int
    snapshot: Snapshot


def save_checkpoint(
    folder: Path,
    position: Position,
    policy: Policy,
    parameters: Parameters,
    config: RunConfig,
) -> Path:
    """Write `folder/step_<step>`: complete under another name first, then renamed.

    Returns:
        The checkpoint's folder.
    """
    final = folder / f"step_{position.step:06d}"
    temporary = folder / f".{final.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    _write_policy(temporary, policy, parameters.masters, config)
    mx.save_safetensors(str(temporary / _ARRAYS), parameters.state())
    state = {
        "arrays_digest": file_digest(temporary / _ARRAYS),
        "step": position.step,
        "policy_version": position.policy_version,
        "tuning": config.learner.tuning,
        "model": config.model.path,
        "ledger": position.snapshot.to_json(),
    }
    write_atomically(temporary / _STATE, json.dumps(state, indent=1))
    for path in (*temporary.iterdir(), temporary):
        sync(path)
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)
    sync(folder)
    return final


def prune_checkpoints(newest: Path, keep_last: int) -> None:
    """Delete old checkpoints, so that `keep_last` are left up to the one that was just saved.

    A damaged one of a later step, which the run could not resume from, takes no other's place.
    """
    upto = [path for path in newest.parent.glob("step_*") if step_of(path) <= step_of(newest)]
    for path in sorted(upto, key=step_of)[:-keep_last]:
        shutil.rmtree(path)


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint's folder is named after; -1 for a folder named otherwise."""
    digits = checkpoint.name.removeprefix("step_")
    return int(digits) if digits.isdecimal() else -1


def restore_checkpoint(folder: Path, parameters: Parameters, config: RunConfig) -> Position | None:
    """Load the newest whole checkpoint of a run, or None where there is none yet.

    Raises:
        CheckpointError: it belongs to another model or tuning, or none of several is whole.
    """
    found_paths = sorted(folder.glob("step_*"), key=step_of, reverse=True)
    for path in found_paths:
        try:
            state = json.loads((path / _STATE).read_text())
            snapshot = Snapshot.from_json(state["ledger"])
            position = Position(int(state["step"]), int(state["policy_version"]), snapshot)
            if file_digest(path / _ARRAYS) != state["arrays_digest"]:
                raise ValueError(f"{_ARRAYS} does not match its digest")
            found = (state["tuning"], state["model"])
            arrays = _load_arrays(path / _ARRAYS)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            log.warning("checkpoint %s is damaged (%r); trying the one before", path, error)
            continue
        wanted = (config.learner.tuning, config.model.path)
        if found != wanted:
            raise CheckpointError(
                f"{path} is of {found[0]} tuning of {found[1]}, the config asks for {wanted[0]} "
                f"tuning of {wanted[1]}: use the config it was made with"
            )
        parameters.restore(arrays)
        return position
    if found_paths:
        raise CheckpointError(
            f"none of the {len(found_paths)} checkpoints in {folder} is whole (the log says why): "
            "delete them to begin again at step 0"
        )
    return None


def _write_policy(folder: Path, policy: Policy, masters: Masters, config: RunConfig) -> None:
    for path in policy.folder.iterdir():
        if path.is_file() and not path.name.endswith(_WEIGHTS):
            shutil.copy(path, folder / path.name)
    if config.learner.tuning == "lora":
        adapters = folder / "adapters.safetensors"
        mx.save_safetensors(str(adapters), masters.rounded())
        (folder / "adapter_config.json").write_text(json.dumps(_adapter_config(config), indent=1))
        return
    mx.save_safetensors(
        str(folder / "model.safetensors"),
        {**_frozen(policy), **masters.rounded()},
        metadata={"format": "mlx"},
    )


def _frozen(policy: Policy) -> dict[str, mx.array]:
    return {
        name: array.astype(policy.weight_dtype)
        for name, array in dict[str, Any](tree_flatten(policy.model.parameters())).items()
    }


def _adapter_config(config: RunConfig) -> dict[str, Any]:
    lora = config.learner.lora
    return {
        "fine_tune_type": "lora",
        "model": config.model.path,
        "num_layers": lora.layers,
        "lora_parameters": {"rank": lora.rank, "scale": lora.scale, "dropout": 0.0},
    }


def _load_arrays(path: Path) -> dict[str, mx.array]:
    arrays = mx.load(str(path))
    assert isinstance(arrays, dict)
    mx.eval(arrays)
    return arrays
