"""Llama models in GGUF -> the pieces of a Hugging Face folder: weights, config.json, tokenizer.

Pure functions of what `mlx.core.load(path, return_metadata=True)` returns. GGUF has its own names
for tensors and its own order of the q and k projections' rows, and keeps config and tokenizer as
metadata. Covers what SmolLM2 needs: blocks of 32 weights, tied embeddings, a byte-level BPE.
"""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

if TYPE_CHECKING:
    import mlx.core as mx

CONTROL_TOKEN = 3
"""A special token, among GGUF's token types."""
BLOCK_SIZE = 32
"""Weights that share a scale, in Q4_1 and Q8_0."""

_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}


def model_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return config.json: the original's settings, read from a GGUF's metadata."""

    def number(key: str) -> float:  # or int, as the file says
        return metadata[key].item()

    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "attention_bias": False,
        "bos_token_id": number("tokenizer.ggml.bos_token_id"),
        "eos_token_id": number("tokenizer.ggml.eos_token_id"),
        "hidden_act": "silu",
        "hidden_size": number("llama.embedding_length"),
        "intermediate_size": number("llama.feed_forward_length"),
        "max_position_embeddings": number("llama.context_length"),
        "mlp_bias": False,
        "num_attention_heads": number("llama.attention.head_count"),
        "num_hidden_layers": number("llama.block_count"),
        "num_key_value_heads": number("llama.attention.head_count_kv"),
        "pad_token_id": number("tokenizer.ggml.padding_token_id"),
        "rms_norm_eps": float(f"{number('llama.attention.layer_norm_rms_epsilon'):.6g}"),
        "rope_theta": number("llama.rope.freq_base"),
        "tie_word_embeddings": True,  # the GGUF holds no output matrix
        "torch_dtype": "bfloat16",
        "vocab_size": number("llama.vocab_size"),
    }


def hf_weights(
    packed: Mapping[str, "mx.array"], num_heads: int, num_kv_heads: int
) -> dict[str, "mx.array"]:
    """Return a llama GGUF's tensors, dequantised to bfloat16, under Hugging Face's names."""
    import mlx.core as mx

    heads = {"attn_q": num_heads, "attn_k": num_kv_heads}
    weights: dict[str, mx.array] = {}
    for name in packed:
        stem, _, kind = name.rpartition(".")
        if kind != "weight":
            continue
        role = stem.rpartition(".")[2]
        tensor = _dequantised(packed, stem)
        if role in heads:
            tensor = unpermuted(tensor, heads[role])
        weights[hf_name(stem)] = tensor.astype(mx.bfloat16)
    return weights


def hf_name(stem: str) -> str:
    """Return the Hugging Face name of a GGUF tensor: `blk.3.attn_q` is layer 3's q_proj.weight."""
    if stem in _TOP_NAMES:
        return f"{_TOP_NAMES[stem]}.weight"
    _, layer, role = stem.split(".")
    return f"model.layers.{layer}.{_LAYER_NAMES[role]}.weight"


def unpermuted(rows: "mx.array", num_heads: int) -> "mx.array":
    """Return the rows of a q or k projection in Hugging Face's order.

    GGUF interleaves each head's two rotary halves (r0, r0', r1, r1', ...); Hugging Face keeps them
    apart (r0, r1, ..., r0', r1', ...).
    """
    import mlx.core as mx

    pairs = mx.reshape(rows, (num_heads, -1, 2, *rows.shape[1:]))
    return mx.reshape(mx.swapaxes(pairs, 1, 2), rows.shape)


def weights_sha256(weights: Mapping[str, "mx.array"]) -> str:
    """Return the SHA-256 of 16-bit tensors' names, shapes and bytes, in the order of their names.

    Independent of the order in which a file stores them, which differs between C++ libraries.
    """
    import mlx.core as mx

    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {list(tensor.shape)}\n".encode())
        digest.update(np.asarray(tensor.view(mx.uint16)).tobytes())
    return digest.hexdigest()


def rebuild_tokenizer(metadata: Mapping[str, Any]) -> Tokenizer:
    """Return the byte-level BPE that splits numbers into digits, as in SmolLM's tokenizer.json."""
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    vocab = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=cast("list[tuple[str, str]]", merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    kinds = metadata["tokenizer.ggml.token_type"].tolist()
    special = [
        AddedToken(token, special=True, normalized=False)
        for token, kind in zip(tokens, kinds, strict=True)
        if kind == CONTROL_TOKEN
    ]
    tokenizer.add_special_tokens(special)  # pyright: ignore[reportUnknownMemberType]
    return tokenizer


def tokenizer_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return tokenizer_config.json: chat template and special tokens of a GGUF's metadata."""
    tokens = metadata["tokenizer.ggml.tokens"]

    def token(role: str) -> str:
        return tokens[metadata[f"tokenizer.ggml.{role}_token_id"].item()]

    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": token("bos"),
        "eos_token": token("eos"),
        "unk_token": token("unknown"),
        "pad_token": token("padding"),
        "chat_template": metadata["tokenizer.chat_template"],
        "clean_up_tokenization_spaces": False,
        "model_max_length": metadata["llama.context_length"].item(),
    }


def _dequantised(packed: Mapping[str, "mx.array"], stem: str) -> "mx.array":
    """Return a tensor in fp32, where int4 * fp16 is exact: every machine rounds alike."""
    import mlx.core as mx

    weight, scales = packed[f"{stem}.weight"], packed.get(f"{stem}.scales")
    if scales is None:
        return weight.astype(mx.float32)
    scales, biases = scales.astype(mx.float32), packed[f"{stem}.biases"].astype(mx.float32)
    bits = weight.shape[-1] // scales.shape[-1]  # a block of 32 takes one 32-bit word a bit
    return mx.dequantize(weight, scales, biases, group_size=BLOCK_SIZE, bits=bits)
