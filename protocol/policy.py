"""The policy as learner and actors share it, so that both compute the same number.

Load a model, add adapters, round and apply weights, logits and logprobs in fp32. Knows nothing of
sampling loops, losses or sockets.
"""

# pyright: standard, reportMissingTypeStubs=false
# (much of mlx is untyped)

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from protocol.blas import preload_blas

preload_blas()  # its fast BLAS must be loaded before mlx

import mlx.core as mx  # noqa: E402
import mlx.nn as nn  # noqa: E402
from mlx.utils import tree_flatten, tree_map, tree_unflatten  # noqa: E402

# mlx_lm.tuner imports these wherever they are: seconds at each start, and folders in /tmp.
_UNWANTED = [name for name in ("wandb", "swanlab") if name not in sys.modules]
_modules: dict[str, Any] = cast("dict[str, Any]", sys.modules)
_modules.update(dict.fromkeys(_UNWANTED))  # None: an ImportError, which it expects
from mlx_lm.tuner.utils import linear_to_lora_layers  # noqa: E402

for _name in _UNWANTED:
    del _modules[_name]

from mlx_lm.utils import load  # noqa: E402

from protocol.config import PolicySection, RunConfig  # noqa: E402
from protocol.config_learner import LoraSection  # noqa: E402
from protocol.errors import ConfigError, WeightsError  # noqa: E402
from protocol.model_folder import model_folder  # noqa: E402
from protocol.tokenizer import LOAD_ERRORS, set_up_tokenizer  # noqa: E402

log = logging.getLogger("protocol.policy")

DTYPES: dict[str, mx.Dtype] = {
    "bfloat16": mx.bfloat16,
    "float16": mx.float16,
    "float32": mx.float32,
}


class LanguageModel(Protocol):
    """What a forward pass needs of a model: mlx-lm's calling convention."""

    def __call__(self, inputs: mx.array, cache: list[Any] | None = None) -> mx.array:
        """Give logits_BTV for tokens_BT."""
        ...


@dataclass
class Policy:
    """A model with what both sides must treat alike."""

    model: Any
    """An mlx-lm model: `model(tokens_BT, cache=None)` gives logits_BTV."""
    tokenizer: Any
    """mlx-lm's TokenizerWrapper."""
    folder: Path
    """Where config and tokenizer files lie."""
    weight_dtype: mx.Dtype
    """What is published."""
    compute_dtype: mx.Dtype
    """What the forward pass runs in."""

    def names(self) -> list[str]:
        """Names of the tensors that a policy version is made of, sorted."""
        return sorted(self.trained())

    def trained(self) -> dict[str, mx.array]:
        """The tensors that a policy version is made of, in `compute_dtype`, by name."""
        return dict(tree_flatten(self.model.trainable_parameters()))

    def apply(self, weights: dict[str, mx.array]) -> None:
        """Compute with these weights from now on: cast to `compute_dtype` and evaluated.

        Raises:
            WeightsError: names or shapes are not those of this policy's version; nothing changed.
        """
        held = self.trained()
        if held.keys() != weights.keys():
            odd = sorted(held.keys() ^ weights.keys())
            raise WeightsError(
                f"tensors do not match this model: {len(odd)} differ, first {odd[0]}"
            )
        for name, array in weights.items():
            if array.shape != held[name].shape:
                raise WeightsError(f"{name} has shape {array.shape}, wanted {held[name].shape}")
        cast_weights = [(name, array.astype(self.compute_dtype)) for name, array in weights.items()]
        mx.eval([array for _, array in cast_weights])
        self.model.update(tree_unflatten(cast_weights))

    def stop_ids(self) -> frozenset[int]:
        """Token ids that end a completion."""
        return frozenset(int(i) for i in self.tokenizer.eos_token_ids)


def load_policy(config: RunConfig) -> Policy:
    """Load the configured model, rounded to `weight_dtype`, with adapters when tuning is lora.

    Version 0 of a full policy is the rounded model itself; that of a lora policy has B = 0.

    Raises:
        ConfigError: there is no such model, or it cannot be tuned as configured.
    """
    folder = model_folder(config.model.path, config.model.revision)
    try:
        model, tokenizer = cast("tuple[nn.Module, Any]", load(str(folder))[:2])
    except LOAD_ERRORS as error:
        raise ConfigError(f"cannot load model {config.model.path}: {error}") from error
    set_up_tokenizer(tokenizer, config.model)
    weight_dtype, compute_dtype = dtypes(config.policy)
    _round(model, weight_dtype, compute_dtype)
    if config.learner.tuning == "lora":
        mx.random.seed(config.run.seed)  # adapters begin alike in every process of a run
        _add_adapters(model, config.learner.lora, compute_dtype)
    elif any(hasattr(module, "bits") for module in model.modules()):
        raise ConfigError(f"model {config.model.path} is quantised: set learner.tuning=lora")
    mx.eval(model.parameters())
    return Policy(model, tokenizer, folder, weight_dtype, compute_dtype)


def dtypes(section: PolicySection) -> tuple[mx.Dtype, mx.Dtype]:
    """(weight dtype, compute dtype) with `auto` resolved for this machine."""
    compute = section.compute_dtype
    if compute == "auto":
        compute = "bfloat16" if mx.default_device().type == mx.gpu else "float32"
    return DTYPES[section.weight_dtype], DTYPES[compute]


def logits(model: LanguageModel, tokens_BT: mx.array, cache: list[Any] | None = None) -> mx.array:
    """logits_BTV of the next token at each position, in fp32 whatever the model computes in.

    A log-softmax taken in bf16 is off by up to 0.1 nats a token.
    """
    return model(tokens_BT, cache=cache).astype(mx.float32)


def log_softmax(logits_V: mx.array, temperature: float | mx.array) -> mx.array:
    """Logprobs in nats over the last axis at a temperature, in fp32."""
    scaled = logits_V / temperature
    return scaled - mx.logsumexp(scaled, axis=-1, keepdims=True)


def token_logprobs(logits_V: mx.array, token_ids: mx.array, temperature: float) -> mx.array:
    """Logprob of each given token at a temperature.

        log softmax(logits / temperature)[token]

    Args:
        logits_V: [..., V] fp32.
        token_ids: [...].
        temperature: the sampling temperature; both sides must use the same.

    Returns:
        [...] nats, fp32; gradients flow to the logits.
    """
    scaled = logits_V / temperature
    picked = mx.take_along_axis(scaled, token_ids[..., None], axis=-1)[..., 0]
    return picked - mx.logsumexp(scaled, axis=-1)


def limit_memory(*, wired_bytes: int, cache_bytes: int, memory_bytes: int) -> None:
    """Set the limits of MLX's allocator; 0 leaves a default.

    The wired limit exists on macOS 15 and later only, and is left alone unless asked for: users met
    kernel panics with it.
    """
    if cache_bytes:
        mx.set_cache_limit(cache_bytes)
    if memory_bytes:
        mx.set_memory_limit(memory_bytes)
    if wired_bytes and mx.metal.is_available():
        mx.set_wired_limit(wired_bytes)


def frozen_arrays(policy: Policy) -> list[tuple[str, mx.array]]:
    """(name, array) of all that is not trained, sorted by name: what adapters are made for."""
    trained = set(policy.names())
    every = cast("list[tuple[str, mx.array]]", tree_flatten(policy.model.parameters()))
    return sorted((pair for pair in every if pair[0] not in trained), key=lambda pair: pair[0])


def _round(model: nn.Module, weight_dtype: mx.Dtype, compute_dtype: mx.Dtype) -> None:
    def rounded(array: mx.array) -> mx.array:
        if not mx.issubdtype(array.dtype, mx.floating):
            return array
        return array.astype(weight_dtype).astype(compute_dtype)

    model.update(tree_map(rounded, model.parameters()))


def _add_adapters(model: nn.Module, lora: LoraSection, compute_dtype: mx.Dtype) -> None:
    available = len(cast(Any, model).layers)
    layers = available if lora.layers == -1 else lora.layers
    if not 0 < layers <= available:
        raise ConfigError(
            f"learner.lora.layers is {layers}, the model has {available}: take 1 to {available}, "
            "or -1 for all"
        )
    model.freeze()
    linear_to_lora_layers(model, layers, {"rank": lora.rank, "scale": lora.scale, "dropout": 0.0})
    adapters = tree_map(lambda array: array.astype(compute_dtype), model.trainable_parameters())
    model.update(adapters)
