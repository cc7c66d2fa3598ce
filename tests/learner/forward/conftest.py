"""Small random models, and a training step's loss and gradient computed too plainly to be wrong."""

import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_unflatten
from mlx_lm.models import cohere, gemma2, gemma4_text, granite, llama, mamba2, qwen3
from mlx_lm.tuner.utils import linear_to_lora_layers

from learner.algorithm import StepTotals, TokenBatch, make_algorithm
from learner.batch import microbatches
from learner.forward.forward import Forward
from learner.gradients import accumulate
from protocol.config_learner import AlgorithmSection, LearnerSection
from protocol.policy import Policy, load_policy

VOCABULARY = 50
TEMPERATURE = 0.7
POLICY_VERSION = 3

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
}
LLAMA = {**SMALL, "model_type": "llama", "rms_norm_eps": 1e-5}
LONG: dict[str, Any] = {
    **SMALL,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1e4,
    "max_position_embeddings": 64,
}
GRANITE: dict[str, Any] = {
    "logits_scaling": 3.0,
    "embedding_multiplier": 2.0,
    "residual_multiplier": 0.5,
}
GRANITE |= {"attention_multiplier": 0.3, "attention_bias": False, "mlp_bias": False}
MAMBA = {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1, "conv_kernel": 3}
MAMBA |= {"use_bias": False, "use_conv_bias": True, "tie_word_embeddings": True}
MAMBA |= {"time_step_limit": (0.0, 100.0), "time_step_rank": "auto", "layer_norm_epsilon": 1e-5}
GEMMA = {"head_dim": 8, "final_logit_softcapping": 0.5}
GEMMA4 = {"global_head_dim": 8, "hidden_size_per_layer_input": 0, "sliding_window": 6}
GEMMA4 |= {"num_hidden_layers": 4, "num_kv_shared_layers": 2, "sliding_window_pattern": 2}


class Whole(nn.Module):
    """A llama that has its layers under another name, and so cannot be split."""

    def __init__(self, args):
        super().__init__()
        self.backbone = llama.LlamaModel(args)
        self.out = nn.Linear(args.hidden_size, args.vocab_size, bias=False)

    def __call__(self, inputs, cache=None):
        return self.out(self.backbone(inputs, cache))

    @property
    def layers(self):
        return self.backbone.layers


def _llama(**changed):
    return llama.Model(llama.ModelArgs(**{**LLAMA, **changed}))


def _quantised():
    model = _llama(tie_word_embeddings=False)
    nn.quantize(model, group_size=32, bits=4)
    return model


def _qwen3():
    section = {**LONG, "model_type": "qwen3", "head_dim": 8, "tie_word_embeddings": False}
    return qwen3.Model(qwen3.ModelArgs(**section))


def _mamba2():
    section = {key: SMALL[key] for key in ("hidden_size", "num_hidden_layers", "vocab_size")}
    return mamba2.Model(
        mamba2.ModelArgs(**{**section, **MAMBA, "model_type": "mamba2", "intermediate_size": 64})
    )


WINDOW = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 5}
MODELS = {
    "llama": _llama,
    "llama_untied": lambda: _llama(tie_word_embeddings=False),
    "llama_window": lambda: _llama(**WINDOW),
    "quantised": _quantised,
    "qwen3": _qwen3,
    "gemma2": lambda: gemma2.Model(
        gemma2.ModelArgs(**SMALL, **GEMMA, model_type="gemma2", rms_norm_eps=1e-5)
    ),
    "gemma4": lambda: gemma4_text.Model(
        gemma4_text.ModelArgs(**{**SMALL, **GEMMA, **GEMMA4, "model_type": "gemma4_text"})
    ),
    "granite": lambda: granite.Model(granite.ModelArgs(**LONG, **GRANITE, model_type="granite")),
    "cohere": lambda: cohere.Model(cohere.ModelArgs(**SMALL, model_type="cohere", logit_scale=2.0)),
    "mamba2": _mamba2,
    "whole": lambda: Whole(llama.ModelArgs(**LLAMA)),
}


@pytest.fixture(autouse=True, scope="session")
def _uncompiled():
    """MLX would call a C++ compiler for every fused kernel: seconds a model, nothing to test."""
    mx.disable_compile()
    yield
    mx.enable_compile()


@pytest.fixture(scope="session")
def make_policy():
    """(name, tuning) -> the same random weights each time, all in fp32; adapters with B."""

    def make(name="llama", tuning="full"):
        mx.random.seed(1)
        model = MODELS[name]()
        if tuning == "lora":
            model.freeze()
            linear_to_lora_layers(
                model, len(model.layers), {"rank": 2, "scale": 4.0, "dropout": 0.0}
            )
            for module in model.modules():
                if hasattr(module, "lora_b"):
                    module.lora_b = 0.1 * mx.random.normal(module.lora_b.shape)
        mx.eval(model.parameters())
        return Policy(model, SimpleNamespace(), Path(), mx.float32, mx.float32)

    return make


@pytest.fixture(scope="session")
def make_batch(make_sample):
    """[(prompt length, completion lengths), ...] -> samples of random tokens, all of whose figures
    are those of a policy near the random models: about -log 50 nats a token."""

    def make(groups, seed=0, vocabulary=VOCABULARY):
        rng = np.random.default_rng(seed)
        samples = []
        for group, (num_prompt, lengths) in enumerate(groups):
            prompt = rng.integers(0, vocabulary, num_prompt)
            for number, length in enumerate(lengths):
                samples.append(
                    make_sample(
                        prompt,
                        rng.integers(0, vocabulary, length),
                        group=group,
                        sample=number,
                        logprobs=rng.normal(-np.log(VOCABULARY), 0.2, length),
                        versions=((1, length),),
                    )
                )
        names = ("advantages", "returns", "old_values", "ref_logprobs", "proximal_logprobs")
        extra = {
            name: [
                rng.normal(-np.log(VOCABULARY) if "logprobs" in name else 0.0, 0.2, len(s))
                for s in (sample.rollout.token_ids for sample in samples)
            ]
            for name in names
        }
        return samples, extra

    return make


@pytest.fixture(scope="session")
def everything():
    """An algorithm whose loss reads all that there is: ratios, KL, entropies, and a critic."""
    parameters = {
        "kl": {"estimator": "k3", "coefficient": 0.3},
        "off_policy": {"correction": "tis", "tis_clip": 1.5},
        "entropy_coefficient": 0.2,
    }

    def make(critic):
        name = "grpo" if critic is None else "ppo"
        known = parameters if critic is None else {**parameters, "value_clip": 100.0}
        section = AlgorithmSection.model_validate({"name": name, **known})
        return replace(make_algorithm(section), entropy_teaches=True)

    return make


@pytest.fixture(scope="session")
def make_critic():
    """A value head that is not 0."""

    def make(policy):
        if not hasattr(policy.model, "model"):
            return None
        weight = np.random.default_rng(5).normal(0, 0.1, SMALL["hidden_size"])
        return {"weight": mx.array(weight.astype(np.float32)), "bias": mx.array([0.2])}

    return make


def _totals(samples):
    return StepTotals(
        num_tokens=sum(len(sample.rollout.token_ids) for sample in samples),
        num_sequences=len(samples),
        max_completion_tokens=16,
    )


@pytest.fixture(scope="session")
def tiny_policy(make_config):
    """The built-in one."""
    return load_policy(make_config(policy={"weight_dtype": "float32"}))


@pytest.fixture(scope="session")
def make_forward():
    """The forward pass of a policy under a section of the config."""

    def make(policy, *, temperature=TEMPERATURE, **section):
        checked = LearnerSection.model_validate(section)
        return Forward(policy.model, checked, temperature=temperature, entropy_gradient=True)

    return make


@pytest.fixture(scope="session")
def make_parts():
    """The microbatches of a batch, or of some of its samples."""

    def make(batch, indices=None, *, token_budget=10_000, share_prompts=True):
        samples, extra = batch
        return microbatches(
            samples,
            range(len(samples)) if indices is None else indices,
            policy_version=POLICY_VERSION,
            token_budget=token_budget,
            share_prompts=share_prompts,
            extra=extra,
        )

    return make


@pytest.fixture(scope="session")
def lean_step(everything):
    """The learner's loss, gradient and logprobs of some microbatches."""

    def lean(policy, forward, batch, parts, critic=None):
        trained = {"policy": policy.trained()} | ({"critic": critic} if critic else {})
        rows = [batch[0][index] for part in parts for index in part.indices]
        algorithm = everything(critic)
        return accumulate(policy.model, forward, algorithm, trained, parts, _totals(rows))

    return lean


@pytest.fixture(scope="session")
def plain_step(everything):
    """Loss and gradient of one padded batch, from the logits of all its positions."""

    def plain(policy, batch, critic, indices):
        samples, extra = batch
        rows = [samples[index] for index in indices]
        tokens = [np.concatenate([s.prompt_ids, s.rollout.token_ids]) for s in rows]
        tokens_BL = _stacked([mx.array(row) for row in tokens])
        figures = {name: [values[index] for index in indices] for name, values in extra.items()}

        def loss_of(trained):
            policy.model.update(tree_unflatten(list(trained["policy"].items())))
            logs_BLV = nn.log_softmax(policy.model(tokens_BL) / TEMPERATURE, axis=-1)
            entropy_BL = -(mx.exp(logs_BLV) * logs_BLV).sum(axis=-1)
            picked_BL = mx.take_along_axis(logs_BLV[:, :-1], tokens_BL[:, 1:, None], -1)[..., 0]
            values = None
            if "critic" in trained:
                hidden_BLD = policy.model.model(tokens_BL)
                values_BL = hidden_BLD @ trained["critic"]["weight"] + trained["critic"]["bias"]
                values = _completions(values_BL, rows)
            batch = TokenBatch(
                logprobs_BT=_completions(picked_BL, rows),
                behaviour_logprobs_BT=_arrays([s.rollout.behaviour_logprobs for s in rows]),
                proximal_logprobs_BT=_arrays(figures["proximal_logprobs"]),
                entropy_BT=_completions(entropy_BL, rows),
                staleness_BT=_arrays([np.full(len(s.rollout.token_ids), 2.0) for s in rows]),
                advantages=_arrays(figures["advantages"]),
                mask_BT=_arrays([np.ones(len(s.rollout.token_ids)) for s in rows]) > 0,
                ref_logprobs_BT=_arrays(figures["ref_logprobs"]),
                values_BT=values,
                old_values_BT=_arrays(figures["old_values"]),
                returns_BT=_arrays(figures["returns"]),
            )
            return everything(critic).loss(batch, _totals(rows))[0]

        trained = {"policy": policy.trained()} | ({"critic": critic} if critic else {})
        loss, gradient = mx.value_and_grad(loss_of)(trained)
        mx.eval(loss, gradient)
        policy.model.update(tree_unflatten(list(trained["policy"].items())))
        return float(loss), gradient

    return plain


def _completions(figures_BL, rows):
    """What stands at the completions' positions, padded to [B, T]."""
    starts = [len(sample.prompt_ids) - 1 for sample in rows]
    return _stacked(
        [
            figures_L[start : start + len(sample.rollout.token_ids)]
            for figures_L, start, sample in zip(figures_BL, starts, rows, strict=True)
        ]
    )


def _arrays(rows):
    return _stacked([mx.array(np.asarray(row, np.float32)) for row in rows])


def _stacked(rows):
    width = max(row.shape[0] for row in rows)
    return mx.stack([mx.pad(row, (0, width - row.shape[0])) for row in rows])


@pytest.fixture(scope="session")
def same_step(make_forward, make_parts, lean_step, plain_step):
    """Asserts that loss and gradient agree, to 1e-5 of the largest entry of the gradient."""

    def check(policy, batch, critic, indices=None, *, microbatch_tokens=10_000, **section):
        indices = list(range(len(batch[0])) if indices is None else indices)
        loss, gradient = plain_step(policy, batch, critic, indices)
        forward = make_forward(policy, **section)
        shares = forward.shares_prompts
        parts = make_parts(batch, indices, token_budget=microbatch_tokens, share_prompts=shares)
        lean = lean_step(policy, forward, batch, parts, critic)
        assert lean.loss == pytest.approx(loss, rel=1e-5, abs=1e-6)
        assert lean.arrays.keys() == gradient.keys()
        for part, arrays in gradient.items():
            assert lean.arrays[part].keys() == arrays.keys()
            largest = max(float(mx.abs(array).max()) for array in arrays.values())
            assert largest > 0
            for name, array in arrays.items():
                error = float(mx.abs(lean.arrays[part][name] - array).max())
                assert error <= 1e-5 * largest, (part, name, error, largest)

    return check
