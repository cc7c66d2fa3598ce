"""Model folders without weights: config.json and a safetensors header that only claims them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.config import RunConfig

BYTES = {"BF16": 2, "F16": 2, "F32": 4, "U32": 4}


def write_header(file: Path, tensors: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    header, start = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = BYTES[dtype]
        for length in shape:
            size *= length
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, start + size]}
        start += size
    text = json.dumps({**header, "__metadata__": {"format": "mlx"}}).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text)


def llama_tensors(
    hidden: int, layers: int, mlp: int, kv: int, vocabulary: int
) -> dict[str, tuple[str, tuple[int, ...]]]:
    found = {"model.embed_tokens.weight": ("BF16", (vocabulary, hidden))}
    for layer in range(layers):
        start = f"model.layers.{layer}."
        for name, shape in {
            "self_attn.q_proj": (hidden, hidden),
            "self_attn.k_proj": (kv, hidden),
            "self_attn.v_proj": (kv, hidden),
            "self_attn.o_proj": (hidden, hidden),
            "mlp.gate_proj": (mlp, hidden),
            "mlp.up_proj": (mlp, hidden),
            "mlp.down_proj": (hidden, mlp),
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
        }.items():
            found[f"{start}{name}.weight"] = ("BF16", shape)
    return {**found, "model.norm.weight": ("BF16", (hidden,))}


@pytest.fixture
def claim_tensors():
    """Writes a safetensors file's header: {name: (dtype, shape)}."""
    return write_header


@pytest.fixture
def make_llama(tmp_path: Path) -> Callable[..., Path]:
    """A folder that claims to be a llama with tied embeddings; nothing in it has data."""

    def make(
        name: str = "llama",
        *,
        hidden: int = 8,
        layers: int = 2,
        mlp: int = 16,
        heads: int = 2,
        kv_heads: int = 1,
        vocabulary: int = 10,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        config = {
            "model_type": "llama",
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "intermediate_size": mlp,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "vocab_size": vocabulary,
            "tie_word_embeddings": True,
        }
        (folder / "config.json").write_text(json.dumps(config))
        kv = kv_heads * hidden // heads
        write_header(
            folder / "model.safetensors", llama_tensors(hidden, layers, mlp, kv, vocabulary)
        )
        return folder

    return make


@pytest.fixture
def make_run() -> Callable[..., RunConfig]:
    """A config of a model's folder; sections by name."""

    def make(path: Path | str, **sections: object) -> RunConfig:
        base = {
            "model": {"path": str(path)},
            "data": {"train": ["arithmetic:add2?count=8"]},
            "rewards": [{"name": "exact_match"}],
            "policy": {"compute_dtype": "float32"},
        }
        return RunConfig.model_validate({**base, **sections})

    return make
