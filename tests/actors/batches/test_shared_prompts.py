import importlib
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models import base

from actors.batches.shared_prompts import attention, hook_attention

D = 8
NAME = "scaled_dot_product_attention"
llama: Any = importlib.import_module("mlx_lm.models.llama")
qwen3: Any = importlib.import_module("mlx_lm.models.qwen3")
plain: Any = getattr(base, NAME)


def random(*shape, seed):
    return mx.random.normal(shape, key=mx.random.key(seed))


def by_hand(query, keys, values, scale):
    """[query heads, D] softmax(q K) V, head by head in float64."""
    query, keys, values = (np.array(array, np.float64) for array in (query, keys, values))
    share = len(query) // len(keys)
    outputs = []
    for head, q in enumerate(query):
        scores = keys[head // share] @ q * scale
        weights = np.exp(scores - scores.max())
        outputs.append(weights / weights.sum() @ values[head // share])
    return np.array(outputs)


@pytest.mark.parametrize("query_heads", [2, 6])
@pytest.mark.parametrize("masked", [False, True])
def test_each_row_attends_to_its_prompt_and_its_own_tokens(query_heads, masked):
    queries = random(5, query_heads, 1, D, seed=1)
    keys, values = random(5, 2, 4, D, seed=2), random(5, 2, 4, D, seed=3)
    prompts = [(random(2, n, D, seed=4 + n), random(2, n, D, seed=20 + n)) for n in (7, 3)]
    parts = [(2, prompts[0]), (1, None), (2, prompts[1])]
    lengths = [4, 1, 3, 2, 4] if masked else [4] * 5
    mask = (mx.arange(4)[None] < mx.array(lengths)[:, None])[:, None, None] if masked else None
    found = attention(queries, keys, values, parts, scale=0.3, mask=mask)
    assert found.shape == (5, query_heads, 1, D)
    for row, prompt in enumerate([prompts[0], prompts[0], None, prompts[1], prompts[1]]):
        own = (keys[row, :, : lengths[row]], values[row, :, : lengths[row]])
        if prompt is not None:
            own = tuple(mx.concatenate([*pair], axis=1) for pair in zip(prompt, own, strict=True))
        wanted = by_hand(queries[row, :, 0], *own, scale=0.3)
        np.testing.assert_allclose(np.array(found)[row, :, 0], wanted, atol=1e-5, rtol=0)


class Cache:
    """Some row of it shares a prompt, or none does."""

    def __init__(self, shares_prompts):
        self.shares_prompts = shares_prompts

    def attend(self, queries, keys, values, scale):
        return "attended"


@pytest.fixture
def unhooked(monkeypatch):
    for module in (llama, qwen3):
        monkeypatch.setattr(module, "scaled_dot_product_attention", plain)


def test_only_this_models_attention_is_hooked_and_only_once(unhooked, make_model):
    model = make_model("llama")
    hook_attention(model)
    hooked = llama.scaled_dot_product_attention
    assert hooked is not plain
    assert qwen3.scaled_dot_product_attention is plain
    hook_attention(model)
    assert llama.scaled_dot_product_attention is hooked
    assert getattr(base, NAME) is plain


def test_other_caches_get_the_attention_that_they_had(unhooked, make_model):
    hook_attention(make_model("llama"))
    queries, keys = random(1, 4, 3, D, seed=1), random(1, 2, 3, D, seed=2)
    hooked = llama.scaled_dot_product_attention
    wanted = plain(queries, keys, keys, None, 0.3, "causal")
    for cache in (None, Cache(shares_prompts=False)):
        found = hooked(queries, keys, keys, cache=cache, scale=0.3, mask="causal")
        assert mx.array_equal(found, wanted)
    assert hooked(queries, keys, keys, cache=Cache(shares_prompts=True), scale=0.3) == "attended"


def test_attention_sinks_are_refused(unhooked, make_model):
    hook_attention(make_model("llama"))
    cache = Cache(shares_prompts=True)
    with pytest.raises(AssertionError, match="sinks"):
        llama.scaled_dot_product_attention(None, None, None, cache=cache, sinks=mx.zeros(4))
