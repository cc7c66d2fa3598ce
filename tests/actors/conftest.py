"""Leases, the built-in tiny policy, and a decoding loop that is too plain to be wrong."""

import numpy as np
import pytest

from protocol.blas import preload_blas

preload_blas()  # before any test module of this folder imports mlx

import mlx.core as mx  # noqa: E402

from actors.sampler import completion_seed, sample  # noqa: E402
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
