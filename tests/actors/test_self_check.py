import logging

import mlx.core as mx
import mlx.nn as nn
import pytest

from actors.batches.batch import Need
from actors.batches.merged import Merged
from actors.batches.rows import Rows
from actors.batches.single import Single
from actors.self_check import suitable_batch

GROUP = [Need(256, 64, 4)]
"""Tokens to hold: 256 + 4 * 64 where the prompt is shared, else 4 * 320."""
SHARED, COPIED = 512, 1280


class Changed(nn.Module):
    """A model whose logits another function may change."""

    def __init__(self, model, change):
        super().__init__()
        self.inner = model
        self.layers = model.layers
        self._change = change

    def __call__(self, inputs, cache=None):
        return self._change(self.inner(inputs, cache=cache), cache)


@pytest.fixture
def suitable(caplog):
    def find(model, dtype=mx.float32, **options):
        with caplog.at_level(logging.WARNING):
            batch = suitable_batch(model, dtype, **options)
        return batch, [record.getMessage() for record in caplog.records]

    return find


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3", "gemma"])
def test_plain_models_share_long_prompts_without_a_word(suitable, make_model, model_type):
    batch, warnings = suitable(make_model(model_type))
    assert isinstance(batch, Rows) and batch.tokens_to_hold(GROUP) == SHARED
    assert batch.tokens_to_hold([Need(101, 28, 4)]) == 4 * 128  # short ones are copied
    assert warnings == []


def test_prompts_are_copied_where_that_is_wanted(suitable, make_model):
    batch, warnings = suitable(make_model("llama"), share_prompts=False)
    assert isinstance(batch, Rows) and batch.tokens_to_hold(GROUP) == COPIED
    assert warnings == []


def test_a_model_in_16_bits_keeps_mlxs_fused_attention(suitable, make_model):
    model = make_model("llama")
    model.set_dtype(mx.bfloat16)
    batch, warnings = suitable(model, mx.bfloat16)
    assert isinstance(batch, Rows) and batch.tokens_to_hold(GROUP) == COPIED
    assert warnings == []


def test_a_model_with_sliding_windows_is_merged(suitable, make_model):
    sliding = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8}
    batch, warnings = suitable(make_model("llama", **sliding))
    assert isinstance(batch, Merged)
    assert warnings == []


def test_a_model_that_is_wrong_in_every_batch_is_decoded_one_by_one(suitable, make_model):
    def change(logits_BTV, cache):
        return logits_BTV + 0.05 * mx.arange(40) if len(logits_BTV) > 1 else logits_BTV

    batch, warnings = suitable(Changed(make_model("llama"), change))
    assert isinstance(batch, Single)
    assert ["nats from those of a plain forward pass" in each for each in warnings[:3]] == [
        True
    ] * 3
    assert "rows with shared prompts" in warnings[0] and "batch caches" in warnings[2]
    assert warnings[3:] == [
        "this model is decoded one completion at a time, which is slow: see above"
    ]


def test_a_way_that_raises_is_passed_over(suitable, make_model):
    def change(logits_BTV, cache):
        if cache is not None and type(cache[0]).__name__ == "RowCache":
            raise RuntimeError("no such cache")
        return logits_BTV

    batch, warnings = suitable(Changed(make_model("llama"), change))
    assert isinstance(batch, Merged)
    assert ["RuntimeError: no such cache" in each for each in warnings] == [True, True]


def test_logprobs_that_are_no_number_are_wrong_even_in_the_last_completion(suitable, make_model):
    def change(logits_BTV, cache):
        late = cache is not None and logits_BTV.shape[:2] == (2, 1)
        return logits_BTV * mx.nan if late else logits_BTV

    batch, warnings = suitable(Changed(make_model("llama"), change))
    assert isinstance(batch, Single)
    assert "differ by nan nats" in warnings[0]
