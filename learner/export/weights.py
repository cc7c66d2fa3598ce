"""The numbers of an export: a checkpoint's model or adapters, cast, fused, quantised."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map_with_path, tree_unflatten

from learner.checkpoints.arrays import load_arrays
from learner.export.form import Form
from learner.export.source import Source
from protocol.errors import ConfigError
from protocol.model_folder import model_folder
from protocol.policy import DTYPES

# isort: split
# after protocol.policy, which keeps mlx_lm.tuner from importing trackers
from mlx_lm.tuner.utils import load_adapters
from mlx_lm.utils import dequantize_model, load_model, quantize_model

ADAPTERS = "adapters.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
GROUP_SIZE = 64
_DAMAGED = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
"""What mlx-lm raises on a model that it cannot load."""


def is_quantised(checkpoint: Path) -> bool:
    """Whether the model that a checkpoint was trained on is quantised."""
    config = read_json(checkpoint / "config.json")
    return "quantization" in config or "quantization_config" in config


def load_exported(source: Source, form: Form) -> tuple[nn.Module, dict[str, Any]]:
    """The model that the run's learner computed with, in the form that is asked for.

    Its numbers are those of `policy.weight_dtype`. Adapters are fused in that type, as mlx_lm.fuse
    does; with a `dtype` in fp32, and rounded once.

    Returns:
        The model, evaluated, and its config.json.

    Raises:
        ConfigError: the base model is not there or not the one that the adapters fit, or no layer
            can be quantised.
    """
    is_lora = source.tuning == "lora"
    folder = (
        model_folder(source.config.model.path, source.config.model.revision)
        if is_lora
        else source.checkpoint
    )
    try:
        model, config = load_model(folder)
        if is_lora:
            load_adapters(model, str(source.checkpoint))
    except _DAMAGED as error:
        what = f"{source.config.model.path} with the adapters of " if is_lora else ""
        raise ConfigError(f"cannot load {what}{source.checkpoint}: {error}") from None
    dtype = form.dtype or source.config.policy.weight_dtype
    _cast(model, DTYPES[source.config.policy.weight_dtype])
    if form.dtype and is_lora:
        _cast(model, mx.float32)
    if is_lora:
        _fuse(model, dequantize=form.dequantize)
    if form.dequantize:
        model = dequantize_model(model)
        for key in ("quantization", "quantization_config"):
            config.pop(key, None)
    _cast(model, DTYPES[dtype])
    _name_dtype(config, dtype)
    if form.bits:
        model, config = _quantise(model, config, form.bits, form.group_size or GROUP_SIZE)
    mx.eval(model.parameters())
    return model, config


def load_exported_adapters(source: Source, form: Form) -> tuple[dict[str, mx.array], dict]:
    """The adapters as they are in the checkpoint, or cast, and their config.

    Raises:
        ConfigError: they cannot be read.
    """
    try:
        arrays = load_arrays(source.checkpoint / ADAPTERS)
    except _DAMAGED as error:
        raise ConfigError(f"cannot load {source.checkpoint / ADAPTERS}: {error}") from None
    if form.dtype:
        arrays = {name: array.astype(DTYPES[form.dtype]) for name, array in arrays.items()}
    return arrays, read_json(source.checkpoint / ADAPTER_CONFIG)


def read_json(path: Path) -> dict[str, Any]:
    """An object of a JSON file.

    Raises:
        ConfigError: there is none.
    """
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds no JSON object")
    return found


def _cast(model: nn.Module, dtype: mx.Dtype) -> None:
    def cast(_: str, array: mx.array) -> mx.array:
        return array.astype(dtype) if mx.issubdtype(array.dtype, mx.floating) else array

    model.update(tree_map_with_path(cast, model.parameters()))


def _fuse(model: nn.Module, *, dequantize: bool) -> None:
    """As mlx_lm.fuse does."""
    fused: list[tuple[str, Any]] = [
        (name, module.fuse(dequantize=dequantize))
        for name, module in model.named_modules()
        if hasattr(module, "fuse")
    ]
    model.update_modules(tree_unflatten(fused))


def _name_dtype(config: dict[str, Any], dtype: str) -> None:
    """Let config.json say which type its weights are of, wherever it says one."""
    for section in (config, config.get("text_config")):
        if isinstance(section, dict):
            section.update({key: dtype for key in ("dtype", "torch_dtype") if key in section})


def _quantise(
    model: nn.Module, config: dict[str, Any], bits: int, group_size: int
) -> tuple[nn.Module, dict[str, Any]]:
    model, config = quantize_model(model, config, group_size, bits)
    if not any(hasattr(module, "bits") for module in model.modules()):
        raise ConfigError(
            f"no layer of the model can be quantised in groups of {group_size}: the sizes of its "
            "layers are not multiples of that, take another --group-size (32, 64, 128)"
        )
    return model, config
