"""A policy of one table, small enough to check by hand."""

import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from protocol.policy import Policy

VOCABULARY = 6


class Bigram(nn.Module):
    """The next token's logits are a row of one table."""

    def __init__(self):
        super().__init__()
        self.table = mx.array(np.random.default_rng(0).normal(size=(VOCABULARY, VOCABULARY)))
        self.layers = []

    def __call__(self, inputs, cache=None):
        return self.table[inputs]


@pytest.fixture
def make_bigram():
    """The same random table each time."""

    def make(weight_dtype=mx.bfloat16):
        return Policy(Bigram(), SimpleNamespace(), Path(), weight_dtype, mx.float32)

    return make


@pytest.fixture
def by_hand():
    """[T] logprobs and [T] entropies, in nats, of a completion under a bigram, in NumPy."""

    def figures(policy, sample, temperature=0.7):
        table = np.array(policy.model.table, np.float64) / temperature
        tokens = [*sample.prompt_ids, *sample.rollout.token_ids]
        rows = table[tokens[len(sample.prompt_ids) - 1 : -1]]
        logs = rows - np.log(np.exp(rows).sum(axis=-1, keepdims=True))
        picked = logs[np.arange(len(rows)), sample.rollout.token_ids]
        return picked, -(np.exp(logs) * logs).sum(axis=-1)

    return figures
