"""Models taken apart into trunk and head, and put together again."""

import logging

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from learner.forward.trunk import SplitModel

TOKENS = ((3, 1, 4, 1, 5), (9, 2, 6, 5, 3))


@pytest.mark.parametrize(
    "name",
    ["llama", "llama_untied", "quantised", "qwen3", "gemma2", "gemma4", "granite", "cohere"],
)
def test_head_of_trunk_is_the_model(make_policy, name):
    model = make_policy(name).model
    split = SplitModel(model)
    assert split.is_split
    hidden_BTD = split.hidden(mx.array(TOKENS))
    assert hidden_BTD.shape == (2, 5, 32)
    logits_NV = split.logits(hidden_BTD.reshape(-1, 32))
    assert logits_NV.dtype == mx.float32
    whole_BTV = model(mx.array(TOKENS))
    np.testing.assert_allclose(
        np.array(logits_NV), np.array(whole_BTV).reshape(10, -1), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", ["gemma2", "gemma4"])
def test_a_capped_head_stays_capped(make_policy, name):
    # 0.5 tanh(z / 0.5): without the cap, some logits of these hidden states are beyond 0.5
    model = make_policy(name).model
    hidden_ND = 100.0 * mx.random.normal((6, 32), key=mx.random.key(0))
    logits_NV = SplitModel(model).logits(hidden_ND)
    assert float(mx.abs(logits_NV).max()) <= 0.5
    assert float(mx.abs(model.model.embed_tokens.as_linear(hidden_ND)).max()) > 0.5


@pytest.mark.parametrize(("name", "scale"), [("granite", 1 / 3), ("cohere", 2.0)])
def test_a_scaled_head_stays_scaled(make_policy, name, scale):
    # granite divides by logits_scaling = 3, cohere multiplies with logit_scale = 2
    model = make_policy(name).model
    hidden_ND = mx.random.normal((6, 32), key=mx.random.key(0))
    plain_NV = model.model.embed_tokens.as_linear(hidden_ND)
    found = SplitModel(model).logits(hidden_ND)
    np.testing.assert_allclose(np.array(found), np.array(scale * plain_NV), rtol=1e-5, atol=1e-6)


class Trunk(nn.Embedding):
    def __call__(self, tokens, cache=None):
        return super().__call__(tokens)


class AddsTokens(nn.Module):
    """Its head reads the tokens as well."""

    def __init__(self):
        super().__init__()
        self.model = Trunk(8, 4)
        self.out = nn.Linear(4, 8)
        self.layers = []

    def __call__(self, tokens, cache=None):
        return self.out(self.model(tokens)) + tokens[..., None]


class TwoTrunks(AddsTokens):
    """Its head is given the sum of two trunks."""

    def __call__(self, tokens, cache=None):
        return self.out(self.model(tokens) + self.model(tokens + 1))


@pytest.mark.parametrize("kind", [AddsTokens, TwoTrunks])
def test_a_model_that_is_put_together_otherwise_is_found_out(kind, caplog):
    model = kind()
    caplog.set_level(logging.WARNING, "learner.forward")
    split = SplitModel(model)
    assert not split.is_split
    assert "cannot be split into trunk and head" in caplog.text
    tokens_BT = mx.array([[1, 2, 3]])
    logits_BTV = split.hidden(tokens_BT)
    np.testing.assert_array_equal(np.array(logits_BTV), np.array(model(tokens_BT)))
    np.testing.assert_array_equal(np.array(split.logits(logits_BTV[0])), np.array(logits_BTV[0]))
    assert split.head_parameters() == {}


@pytest.mark.parametrize("name", ["mamba2", "whole"])
def test_a_model_without_a_trunk_of_that_name_gives_its_logits(make_policy, name):
    model = make_policy(name).model
    split = SplitModel(model)
    assert not split.is_split
    np.testing.assert_array_equal(
        np.array(split.hidden(mx.array(TOKENS))), np.array(model(mx.array(TOKENS)))
    )


@pytest.mark.parametrize(
    ("name", "tuning", "wanted"),
    [
        ("llama", "full", {"model.embed_tokens.weight", "model.norm.weight"}),
        (
            "llama_untied",
            "full",
            {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"},
        ),
        ("llama_untied", "lora", set()),
    ],
)
def test_what_a_head_can_depend_on_is_what_is_trained_outside_of_the_layers(
    make_policy, name, tuning, wanted
):
    assert SplitModel(make_policy(name, tuning).model).head_parameters().keys() == wanted


def test_a_head_computes_with_the_parameters_it_was_given(make_policy):
    model = make_policy("llama_untied").model
    split = SplitModel(model)
    parameters = split.head_parameters()
    split.use_head_parameters({**parameters, "lm_head.weight": mx.zeros((50, 32))})
    assert not np.array(split.logits(mx.ones((2, 32)))).any()
    split.use_head_parameters(parameters)
    assert np.array(split.logits(mx.ones((2, 32)))).any()
