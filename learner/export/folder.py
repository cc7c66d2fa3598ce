"""A folder in mlx-lm's layout: written whole under another name, then renamed."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.utils import get_total_parameters, make_shards, save_config

from learner.checkpoints.arrays import freeze, safetensors
from learner.checkpoints.contents import STATE
from learner.checkpoints.manifest import MANIFEST
from learner.disk import room, write_all
from learner.export.source import Source
from protocol.errors import ConfigError

CARD = "README.md"
MARK = "mlx-rl-trainer"
"""A tag of the card, by which a folder is known that may be replaced."""

INDEX = "model.safetensors.index.json"
_NOT_OF_THE_MODEL = frozenset({CARD, STATE, MANIFEST, "config.json", "adapter_config.json"})
"""Files of a checkpoint that an export has not, or makes anew."""


def make_folder(out: Path, fill: Callable[[Path], None], *, force: bool) -> None:
    """Make a folder that is there whole or not at all.

    Args:
        out: its place.
        fill: writes everything into the folder that it is given.
        force: replace an earlier export that is there.

    Raises:
        ConfigError: something is there already, or it cannot be written.
    """
    _refuse_existing(out, force=force)
    temporary = out.with_name(f".{out.name}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)  # of an export that was killed
        temporary.mkdir()
        fill(temporary)
        _take_place(temporary, out)
    except OSError as error:
        raise ConfigError(
            f"cannot write {out}: {error} ({room(_existing_parent(out))}): choose another folder "
            "with --out, or make this one writable, with room for the model"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_model(folder: Path, model: nn.Module, config: Mapping[str, Any]) -> None:
    """Write weights and config.json as mlx_lm.utils.save_model does.

    That one's error does not say whether the disk is full, and the order of its bytes is that of a
    hash table; its names, its shards and its index are kept.
    """
    shards = make_shards(dict(tree_flatten(model.parameters())))
    places: dict[str, str] = {}
    num_bytes = 0
    for number, shard in enumerate(shards, start=1):
        name = "model.safetensors"
        if len(shards) > 1:
            name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_arrays(folder / name, shard, {"format": "mlx"})
        places |= dict.fromkeys(shard, name)
        num_bytes += sum(array.nbytes for array in shard.values())
    totals = {"total_size": num_bytes, "total_parameters": get_total_parameters(model)}
    write_json(folder / INDEX, {"metadata": totals, "weight_map": dict(sorted(places.items()))})
    has_vision = "vision_tower" in getattr(model, "model", {})
    save_config(dict(config), folder / "config.json", keep_vision_config=has_vision)


def write_arrays(
    path: Path, arrays: Mapping[str, mx.array], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        for piece in safetensors(freeze(arrays), metadata):
            write_all(descriptor, piece)
    finally:
        os.close(descriptor)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file as mlx-lm does."""
    path.write_text(json.dumps(value, indent=4) + "\n", encoding="utf-8")


def copy_tokenizer(source: Source, folder: Path) -> None:
    """Copy what a checkpoint took over from its model, but for what describes weights.

    Tokenizer, chat template, generation_config.json, code and licences of the model.
    """
    for name in sorted(source.files - _NOT_OF_THE_MODEL):
        if not name.endswith(".safetensors"):
            shutil.copyfile(source.checkpoint / name, folder / name)


def _refuse_existing(out: Path, *, force: bool) -> None:
    if not (out.exists() or out.is_symlink()):
        return
    if not out.is_dir() or out.is_symlink():
        raise ConfigError(f"{out} is no folder: choose another --out")
    if not force:
        raise ConfigError(f"{out} exists: choose another folder with --out, or give --force")
    if any(out.iterdir()) and not _is_export(out):
        raise ConfigError(
            f"{out} is no folder of mlx-export, so that --force does not replace it: choose "
            "another --out"
        )


def _is_export(folder: Path) -> bool:
    try:
        front = (folder / CARD).read_text(encoding="utf-8").split("\n---\n", 1)[0]
    except (OSError, UnicodeDecodeError):
        return False
    return f"- {MARK}" in front.splitlines()


def _take_place(temporary: Path, out: Path) -> None:
    replaced = out.with_name(f".{out.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if out.exists():
        os.rename(out, replaced)
    try:
        os.rename(temporary, out)
    except BaseException:
        if replaced.exists():
            os.rename(replaced, out)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def _existing_parent(path: Path) -> Path:
    return next(each for each in path.absolute().parents if each.is_dir())
