"""The engine against models of many architectures: caches that slide, recur, convolve or compress.

Tiny random models, made from mlx-lm's ModelArgs; the window of the sliding ones is shorter than
what is decoded. Each is decoded in the batch that an actor would take for it.
"""

import logging

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.generate import generate_step

from actors.batches.merged import Merged
from actors.batches.rows import Rows
from actors.batches.single import Single
from actors.self_check import suitable_batch

VOCABULARY = 40
SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8}
MOE = {"num_experts": 4, "num_experts_per_tok": 2}
DELTA_NET = {
    "num_hidden_layers": 4,
    "full_attention_interval": 2,
    "linear_num_value_heads": 2,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 4,
}
QWEN3_MOE = {
    **MOE,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "moe_intermediate_size": 16,
    "norm_topk_prob": True,
}
LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 16,
    "num_experts_per_tok": 2,
    "first_k_dense_replace": 1,
    "rope_scaling": None,
}
ARCHITECTURES = {
    "llama": {},
    "llama sliding": SLIDING,
    "qwen2": {},
    "qwen3": {},
    "smollm3": {},
    "phi3": {},
    "gemma": {},
    "gemma3_text": {
        "num_hidden_layers": 3,
        "sliding_window": 8,
        "sliding_window_pattern": 3,
        "query_pre_attn_scalar": 8,
    },
    "olmo2": {},
    "olmo3": SLIDING,
    "exaone4": {"sliding_window": 8, "sliding_window_pattern": "LG", "rope_scaling": None},
    "cohere2": {"sliding_window": 8, "sliding_window_pattern": 2, "layer_norm_eps": 1e-5},
    "ministral3": {
        **SLIDING,
        "rope_parameters": {
            "rope_theta": 10000.0,
            "llama_4_scaling_beta": 0.1,
            "original_max_position_embeddings": 512,
        },
    },
    "gpt_oss": {
        **SLIDING,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "rope_scaling": {
            "rope_type": "yarn",
            "factor": 32.0,
            "original_max_position_embeddings": 4096,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
        },
    },
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": QWEN3_MOE,
    "deepseek_v3": LATENT,
    "lfm2": {
        "norm_eps": 1e-5,
        "conv_bias": False,
        "conv_L_cache": 3,
        "block_dim": 32,
        "block_ff_dim": 64,
        "block_multiple_of": 8,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False,
        "full_attn_idxs": [1],
    },
    "qwen3_next": {
        **DELTA_NET,
        **QWEN3_MOE,
        "shared_expert_intermediate_size": 16,
        "partial_rotary_factor": 0.5,
    },
    "qwen3_5": {
        "text_config": {
            **DELTA_NET,
            "model_type": "qwen3_5",
            "rope_parameters": {
                "type": "default",
                "rope_theta": 10000.0,
                "partial_rotary_factor": 0.5,
                "mrope_section": [1, 1, 0],
            },
        }
    },
    "mamba2": {
        "num_heads": 4,
        "head_dim": 16,
        "state_size": 8,
        "n_groups": 1,
        "conv_kernel": 4,
        "use_bias": False,
        "use_conv_bias": True,
        "time_step_limit": (0.0, 1e9),
        "time_step_rank": 4,
        "chunk_size": 8,
        "layer_norm_epsilon": 1e-5,
        "residual_in_fp32": False,
        "rescale_prenorm_residual": False,
    },
}
LOOSER = {"qwen3_5": 1e-3, "qwen3_next": 1e-3}
"""Decoding such a model alone, without our engine, differs as much from its own forward pass:
a gated delta rule over a whole sequence sums in another order than token by token."""
GEMMA2 = {"query_pre_attn_scalar": 8.0}
"""mlx-lm 0.32.2 masks gemma2's grouped attention with a shape that does not broadcast."""
PLAIN = [
    *("llama", "qwen2", "qwen3", "smollm3", "phi3", "gemma", "olmo2", "mixtral"),
    *("qwen3_moe", "deepseek_v3"),
]
"""Every layer keeps plain keys and values."""
CASES = [
    (5, 3, 12, 0),
    (17, 2, 12, 4),
    (11, 3, 20, 3),
    (2, 2, 20, 0),
    (1, 2, 20, 2),
    (1, 1, 3, 0),
    (30, 1, 4, 100),
]
"""(prompt's length, samples, tokens, steps before the next comes): join under way, and leave."""


def make(make_model, name):
    return make_model(name.split()[0], **(GEMMA2 if name == "gemma2" else ARCHITECTURES[name]))


def decode(engine, make_lease, **fields):
    chosen = np.random.default_rng(0)
    finished = []
    for group_id, (length, num_samples, tokens, steps) in enumerate(CASES):
        prompt = chosen.integers(6, VOCABULARY, length).tolist()
        lease = {"max_completion_tokens": tokens, **fields}
        engine.add(make_lease(group_id, prompt, num_samples, **lease))
        finished += [completion for _ in range(steps) for completion in engine.step()]
    assert engine.idle
    keys = {(completion.lease.group_id, completion.sample) for completion in finished}
    assert len(finished) == len(keys) == 14
    return finished


def greedy(model, completion):
    """mlx-lm's own loop, on its own caches."""
    prompt = mx.array(completion.lease.prompt_ids)
    steps = generate_step(prompt, model, max_tokens=completion.lease.max_completion_tokens)
    return [int(token) for token, _ in steps]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_actor_decodes_each_architecture_in_a_batch_that_is_right_for_it(
    name, make_model, make_engine, make_lease, plain_logprobs, caplog
):
    model = make(make_model, name)
    with caplog.at_level(logging.WARNING):
        batch = suitable_batch(model, mx.float32)
    assert type(batch) is (Rows if name in PLAIN else Merged)
    # its attention adds positions to the mask, which shared prompts do not know
    assert ("rows with shared prompts" in caplog.text) == (name == "deepseek_v3")
    finished = decode(make_engine(model, batch, {5}, 9, prefill_step_tokens=7), make_lease)
    for completion in finished:
        wanted = plain_logprobs(model, completion)
        tolerance = LOOSER.get(name, 1e-4)
        np.testing.assert_allclose(completion.behaviour_logprobs, wanted, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", [*ARCHITECTURES, "gemma2"])
def test_greedy_tokens_are_those_of_mlx_lm(name, make_model, make_engine, make_lease):
    model = make(make_model, name)
    engine = make_engine(model, suitable_batch(model, mx.float32), look_ahead=True)
    finished = decode(engine, make_lease, temperature=0.0)
    wanted = {c.lease.group_id: greedy(model, c) for c in finished if c.sample == 0}
    for completion in finished:
        assert completion.token_ids == wanted[completion.lease.group_id]


@pytest.mark.parametrize("name", ["qwen2", "qwen3", "olmo2", "mixtral"])
def test_shared_prompts_change_no_logprob(
    name, make_model, make_engine, make_lease, plain_logprobs
):
    model = make(make_model, name)
    for completion in decode(make_engine(model, Rows(model, 1), {5}, 9), make_lease):
        wanted = plain_logprobs(model, completion)
        np.testing.assert_allclose(completion.behaviour_logprobs, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["llama sliding", "gemma3_text", "qwen3_5"])
def test_completions_are_those_of_a_plain_loop(
    name, make_model, make_engine, make_lease, plain_completion
):
    model = make(make_model, name)
    for completion in decode(make_engine(model, Merged(model), {5}, 12), make_lease):
        tokens, _ = plain_completion(model, completion.lease, completion.sample, {5})
        assert completion.token_ids == tokens


def test_gemma2_is_decoded_one_by_one_with_a_warning_and_right(
    make_model, make_engine, make_lease, plain_logprobs, caplog
):
    model = make(make_model, "gemma2")
    with caplog.at_level(logging.WARNING):
        batch = suitable_batch(model, mx.float32)
    assert type(batch) is Single
    assert "cannot be broadcast" in caplog.text
    assert "one completion at a time, which is slow" in caplog.text
    for completion in decode(make_engine(model, batch, {5}), make_lease):
        wanted = plain_logprobs(model, completion)
        np.testing.assert_allclose(completion.behaviour_logprobs, wanted, atol=1e-4, rtol=0)
