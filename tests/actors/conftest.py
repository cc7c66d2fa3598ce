"""Leases, engines, tiny models, and a decoding loop that is too plain to be wrong."""

import importlib

import numpy as np
import pytest

from protocol.blas import preload_blas

preload_blas()  # before any test module of this folder imports mlx

import mlx.core as mx  # noqa: E402
from mlx.utils import tree_map  # noqa: E402
from mlx_lm.models.cache import make_prompt_cache  # noqa: E402

from actors.batches.rows import Rows  # noqa: E402
from actors.engine import Engine  # noqa: E402
from actors.entrance import Room  # noqa: E402
from actors.sampler import completion_seed, sample  # noqa: E402
from actors.stopping import Stopping  # noqa: E402
from protocol.config import RunConfig  # noqa: E402
from protocol.messages import Lease  # noqa: E402
from protocol.policy import load_policy, logits, token_logprobs  # noqa: E402


@pytest.fixture(autouse=True)
def _uncompiled():
    """MLX would call a C++ compiler for every fused kernel: seconds a model, nothing to test."""
    mx.disable_compile()
    yield
    mx.enable_compile()


@pytest.fixture(scope="session")
def run_config():
    def make(**sections):
        sections = {"model": {"path": "builtin:tiny"}, **sections}
        return RunConfig.model_validate(
            {"data": {"train": ["unused"]}, "rewards": [{"name": "exact_match"}], **sections}
        )

    return make


@pytest.fixture(scope="session")
def tiny(run_config):
    policy = load_policy(run_config(policy={"compute_dtype": "float32"}))
    policy.model.eval()
    return policy


SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rms_norm_eps": 1e-5,
    "vocab_size": 40,
    "rope_theta": 10000.0,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}


@pytest.fixture(scope="session")
def make_model():
    """(model type, seed, fields) -> a tiny random model, made from mlx-lm's ModelArgs."""

    def make(model_type, seed=1, **fields):
        module = importlib.import_module(f"mlx_lm.models.{model_type}")
        if "text_config" in fields:
            fields["text_config"] = {**SIZES, **fields["text_config"]}
        mx.random.seed(0)  # vectors keep what the model drew for them
        arguments = module.ModelArgs.from_dict({**SIZES, "model_type": model_type, **fields})
        model = module.Model(arguments)
        keys = iter(mx.random.split(mx.random.key(seed), 500))

        def initial(array):
            """Matrices with gain: logprobs that vary by more than a nat from token to token."""
            if not mx.issubdtype(array.dtype, mx.floating):
                return array
            if array.ndim < 2:
                return array.astype(mx.float32)
            return mx.random.normal(array.shape, key=next(keys)) * array.shape[-1] ** -0.5

        model.update(tree_map(initial, model.parameters()))
        model.eval()
        mx.eval(model.parameters())
        return model

    return make


@pytest.fixture(scope="session")
def make_engine():
    """(model, batch, stop ids, max_sequences, ...) -> an engine at version 3."""

    def make(model, batch=None, stop_ids=(), max_sequences=16, **options):
        room = {key: options.pop(key) for key in Room._fields if key in options}
        options = {"recycle_tokens": 10**6, **options}
        stopping = options.pop("stopping", None) or Stopping(stop_ids)
        engine = Engine(
            model, batch or Rows(model), stopping, Room(max_sequences, **room), **options
        )
        engine.policy_version = 3
        return engine

    return make


@pytest.fixture(scope="session")
def drain():
    """(engine) -> what it still finishes."""

    def drain(engine, max_steps=400):
        finished = []
        for _ in range(max_steps):
            if engine.idle:
                return finished
            finished += engine.step()
        raise AssertionError("the engine does not come to an end")

    return drain


@pytest.fixture(scope="session")
def make_lease():
    def make(group_id=1, prompt=(7, 8, 9), num_samples=2, **fields):
        facts = {
            "attempt": 1,
            "purpose": "train",
            "seed": 1000 + group_id,
            "temperature": 0.7,
            "max_completion_tokens": 12,
            "policy_version": 0,
        }
        prompt_ids = np.array(prompt, np.int32)
        named = {"group_id": group_id, "prompt_ids": prompt_ids, "num_samples": num_samples}
        return Lease.model_validate({**named, **facts, **fields})

    return make


@pytest.fixture(scope="session")
def plain_completion():
    """(model, lease, sample index, stop ids) -> tokens and logprobs: no cache, no batch."""

    def complete(model, lease, index, stop_ids):
        token_ids, logprobs = [], []
        seed = np.array([completion_seed(lease.seed, index)], np.uint64)
        while len(token_ids) < lease.max_completion_tokens:
            tokens_1T = mx.array([[*lease.prompt_ids.tolist(), *token_ids]])
            temperatures = np.array([lease.temperature], np.float32)
            position = np.array([len(token_ids)], np.uint64)
            chosen = sample(logits(model, tokens_1T)[:, -1], temperatures, seed, position)
            token_ids += np.array(chosen.tokens_B).tolist()
            logprobs += np.array(chosen.logprobs_B).tolist()
            if token_ids[-1] in stop_ids:
                break
        return token_ids, logprobs

    return complete


@pytest.fixture(scope="session")
def plain_logprobs():
    """(model, completion) -> logprobs of its tokens by one forward pass over it alone."""

    def logprobs(model, completion):
        prompt = completion.lease.prompt_ids.tolist()
        tokens = [*prompt, *completion.token_ids]
        logits_TV = logits(model, mx.array([tokens[:-1]]))[0, len(prompt) - 1 :]
        temperature = completion.lease.temperature or 1.0
        return np.array(token_logprobs(logits_TV, mx.array(completion.token_ids), temperature))

    return logprobs


@pytest.fixture(scope="session")
def in_flight_logits():
    """(model, weights by version, completion) -> logits of its tokens, by plain mlx-lm caches.

    Each token's input is computed under the version that the token was sampled under; what is
    older stays as it was, or with `recompute` is of that version too.
    """

    def compute(model, weights, completion, *, recompute=False):
        prompt = completion.lease.prompt_ids.tolist()
        tokens = [*prompt, *completion.token_ids]
        cache, found, done = make_prompt_cache(model), [], 0
        end = len(prompt) - 1
        for version, count in completion.policy_versions:
            end += count
            model.update(weights[version])
            if recompute:
                cache, done = make_prompt_cache(model), 0
            found.append(logits(model, mx.array([tokens[done:end]]), cache)[0, -count:])
            mx.eval(found[-1])
            done = end
        return mx.concatenate(found)

    return compute
