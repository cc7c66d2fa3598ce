"""What a checkpoint consists of, taken hold of at one moment and written later."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from learner.checkpoints.arrays import freeze, safetensors
from learner.checkpoints.groups import pack_groups
from learner.checkpoints.manifest import MANIFEST
from learner.checkpoints.position import Position
from learner.checkpoints.storing import BLOCK_BYTES, Contents
from learner.parameters import Parameters
from protocol.config import RunConfig
from protocol.policy import Policy

STATE = "trainer.json"
ARRAYS = "trainer.safetensors"
GROUPS = "groups.msgpack"
_WEIGHTS = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".gguf")
"""How the names of files end that a checkpoint does not take over from the model."""


def contents(
    position: Position,
    policy: Policy,
    parameters: Parameters,
    config: RunConfig,
    facts: Mapping[str, str],
) -> Contents:
    """Every file of a checkpoint; what training does afterwards changes none of it.

    It evaluates arrays, so it belongs into the thread that trains. The pieces are the arrays' own
    memory; only the policy, which is rounded, is new.
    """
    arrays = freeze(parameters.state())
    return {
        **_files_of_the_model(policy.folder),
        **_policy_files(policy, parameters, config),
        ARRAYS: list(safetensors(arrays)),
        GROUPS: [pack_groups(position.snapshot.scored)],
        STATE: [_json(_state(position, config, facts))],
    }


def num_bytes(found: Contents) -> int:
    """How large a checkpoint will be, but for the files that are copied from the model."""
    return sum(len(piece) for pieces in found.values() if type(pieces) is list for piece in pieces)


def _state(position: Position, config: RunConfig, facts: Mapping[str, str]) -> dict[str, Any]:
    return {
        "step": position.step,
        "policy_version": position.policy_version,
        "tuning": config.learner.tuning,
        "model": config.model.path,
        "facts": dict(facts),
        "ledger": position.snapshot.to_json(),
    }


def _files_of_the_model(folder: Path) -> dict[str, Iterator[bytes]]:
    return {
        path.name: _blocks(path)
        for path in sorted(folder.iterdir())
        if path.is_file() and path.name != MANIFEST and not path.name.endswith(_WEIGHTS)
    }


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block


def _policy_files(policy: Policy, parameters: Parameters, config: RunConfig) -> Contents:
    rounded = parameters.masters.rounded()
    if config.learner.tuning == "lora":
        return {
            "adapters.safetensors": list(safetensors(freeze(rounded))),
            "adapter_config.json": [_json(_adapter_config(config))],
        }
    arrays = freeze({**_frozen(policy, rounded), **rounded})
    return {"model.safetensors": list(safetensors(arrays, {"format": "mlx"}))}


def _frozen(policy: Policy, trained: Mapping[str, mx.array]) -> dict[str, mx.array]:
    every: Any = tree_flatten(policy.model.parameters())
    return {name: array.astype(policy.weight_dtype) for name, array in every if name not in trained}


def _adapter_config(config: RunConfig) -> dict[str, Any]:
    lora = config.learner.lora
    return {
        "fine_tune_type": "lora",
        "model": config.model.path,
        "num_layers": lora.layers,
        "lora_parameters": {"rank": lora.rank, "scale": lora.scale, "dropout": 0.0},
    }


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1).encode() + b"\n"
