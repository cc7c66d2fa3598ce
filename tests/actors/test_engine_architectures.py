"""The engine against models of many architectures: caches that slide, recur, convolve or compress.

Tiny random models, made from mlx-lm's ModelArgs; the window of the sliding ones is shorter than
what is decoded.
"""

import importlib

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_map

from actors.engine import Engine

VOCABULARY = 40
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rms_norm_eps": 1e-5,
    "vocab_size": VOCABULARY,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
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
            **SIZES,
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
BROKEN = {
    # mlx-lm 0.32.2 masks gemma2's grouped attention with a shape that does not broadcast
    "gemma2": ({"query_pre_attn_scalar": 8.0}, "cannot be broadcast"),
}


def make_model(name, fields):
    model_type = name.split()[0]
    module = importlib.import_module(f"mlx_lm.models.{model_type}")
    mx.random.seed(0)  # vectors keep what the model drew for them
    arguments = module.ModelArgs.from_dict({**SIZES, "model_type": model_type, **fields})
    model = module.Model(arguments)
    keys = iter(mx.random.split(mx.random.key(1), 500))

    def initial(array):
        """Matrices with gain: logprobs that vary by more than a nat from token to token."""
        if not mx.issubdtype(array.dtype, mx.floating):
            return array
        if array.ndim < 2:
            return array.astype(mx.float32)
        return mx.random.normal(array.shape, key=next(keys)) * array.shape[-1] ** -0.5

    model.update(tree_map(initial, model.parameters()))
    model.eval()
    return model


def decode(model, make_lease):
    """Groups that join a batch under way and leave it, with prompts of five lengths."""
    chosen = np.random.default_rng(0)
    engine = Engine(model, {5}, max_sequences=12, recycle_tokens=10**6)
    engine.policy_version = 0
    finished = []
    for group_id, (length, num_samples, tokens, steps) in enumerate(
        [(5, 3, 12, 0), (17, 2, 12, 4), (11, 3, 20, 3), (2, 2, 20, 0), (1, 2, 20, 100)]
    ):
        prompt = chosen.integers(6, VOCABULARY, length).tolist()
        engine.add(make_lease(group_id, prompt, num_samples, max_completion_tokens=tokens))
        finished += [completion for _ in range(steps) for completion in engine.step()]
    assert engine.idle
    assert len(finished) == 12
    return finished


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_behaviour_logprobs_are_those_of_a_forward_pass(name, make_lease, plain_logprobs):
    model = make_model(name, ARCHITECTURES[name])
    finished = decode(model, make_lease)
    for completion in finished:
        wanted = plain_logprobs(model, completion)
        tolerance = LOOSER.get(name, 1e-4)
        np.testing.assert_allclose(completion.behaviour_logprobs, wanted, atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", ["llama sliding", "gemma3_text", "qwen3_5"])
def test_completions_are_those_of_a_plain_loop(name, make_lease, plain_completion):
    model = make_model(name, ARCHITECTURES[name])
    for completion in decode(model, make_lease):
        tokens, _ = plain_completion(model, completion.lease, completion.sample, {5})
        assert completion.token_ids == tokens


@pytest.mark.parametrize("name", BROKEN)
def test_architectures_that_cannot_decode_in_batches_are_known(name, make_lease):
    fields, complaint = BROKEN[name]
    with pytest.raises(ValueError, match=complaint):
        decode(make_model(name, fields), make_lease)
