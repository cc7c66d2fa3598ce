from protocol.blas import preload_blas

preload_blas()

import mlx.core as mx  # noqa: E402 - the BLAS must be loaded first
import pytest  # noqa: E402

from protocol.gguf_llama import (  # noqa: E402
    hf_name,
    hf_weights,
    rebuild_tokenizer,
    tokenizer_config,
    unpermuted,
    weights_sha256,
)


def test_unpermuting_by_hand():
    # One head of 4 rows: GGUF's order r0 r2 r1 r3 (rotary pairs together) is r0 r1 r2 r3 again.
    rows = mx.array([[0.0], [2.0], [1.0], [3.0]])
    assert unpermuted(rows, num_heads=1).flatten().tolist() == [0, 1, 2, 3]


def test_unpermuting_undoes_the_permutation_that_gguf_applies_to_each_head():
    rows = mx.arange(2 * 8 * 3).reshape(16, 3)  # two heads of 8 rows
    permuted = rows.reshape(2, 2, 4, 3).swapaxes(1, 2).reshape(16, 3)  # llama.cpp's own formula
    assert permuted[:8, 0].tolist() != rows[:8, 0].tolist()
    assert mx.array_equal(unpermuted(permuted, num_heads=2), rows)


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("token_embd", "model.embed_tokens.weight"),
        ("output_norm", "model.norm.weight"),
        ("blk.3.attn_q", "model.layers.3.self_attn.q_proj.weight"),
        ("blk.12.ffn_down", "model.layers.12.mlp.down_proj.weight"),
    ],
)
def test_tensors_get_hugging_faces_names(stem, name):
    assert hf_name(stem) == name


@pytest.mark.parametrize("bits", [4, 8])
def test_a_packed_tensor_is_dequantised_as_scale_times_integer_plus_bias(bits):
    # integers 0..31 modulo 16 or as they are, scale 0.5, bias -1: 0.5 * 5 - 1 = 1.5
    integers = [value % 2**bits for value in range(32)]
    words = [
        sum(integers[start + i] << (bits * i) for i in range(32 // bits))
        for start in range(0, 32, 32 // bits)
    ]
    packed = {
        "blk.0.ffn_up.weight": mx.array([words], dtype=mx.uint32),
        "blk.0.ffn_up.scales": mx.array([[0.5]], dtype=mx.float16),
        "blk.0.ffn_up.biases": mx.array([[-1.0]], dtype=mx.float16),
        "output_norm.weight": mx.array([0.25], dtype=mx.float32),
    }
    weights = hf_weights(packed, num_heads=1, num_kv_heads=1)
    up = weights["model.layers.0.mlp.up_proj.weight"]
    assert up.dtype == mx.bfloat16
    assert up[0].tolist() == [0.5 * integer - 1 for integer in integers]
    assert weights["model.norm.weight"].tolist() == [0.25]


def test_the_weights_digest_ignores_order_and_sees_one_bit():
    a, b = mx.zeros(3, dtype=mx.bfloat16), mx.ones((2, 2), dtype=mx.bfloat16)
    digest = weights_sha256({"a": a, "b": b})
    assert weights_sha256({"b": b, "a": a}) == digest
    assert weights_sha256({"a": a, "b": b.at[0, 0].add(2**-7)}) != digest


@pytest.fixture
def metadata():
    tokens = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens += ["1", "2", "a", "b", "Ġ", "ab", "Ġab"]
    number = mx.array
    return {
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": ["a b", "Ġ ab"],
        "tokenizer.ggml.token_type": mx.array([3, 3, 3] + [1] * 7),
        "tokenizer.ggml.bos_token_id": number(1),
        "tokenizer.ggml.eos_token_id": number(2),
        "tokenizer.ggml.unknown_token_id": number(0),
        "tokenizer.ggml.padding_token_id": number(2),
        "tokenizer.chat_template": "{{ messages }}",
        "llama.context_length": number(64),
    }


def test_the_rebuilt_tokenizer_merges_splits_digits_and_keeps_special_tokens_whole(metadata):
    tokenizer = rebuild_tokenizer(metadata)
    encoding = tokenizer.encode("ab ab<|im_end|>12")
    assert encoding.tokens == ["ab", "Ġab", "<|im_end|>", "1", "2"]
    assert encoding.ids == [8, 9, 2, 3, 4]
    assert tokenizer.decode(encoding.ids, skip_special_tokens=False) == "ab ab<|im_end|>12"
    assert tokenizer.decode(encoding.ids) == "ab ab12"
    assert tokenizer.get_vocab_size() == 10


def test_the_tokenizer_config_names_the_special_tokens_and_keeps_the_chat_template(metadata):
    config = tokenizer_config(metadata)
    assert config["eos_token"] == config["pad_token"] == "<|im_end|>"
    assert config["chat_template"] == "{{ messages }}"
    assert config["model_max_length"] == 64
