from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import make_prompt_cache

from actors.batches.prompts import Prompts


class Model:
    """Remembers what it is given; nobody may look at its logits."""

    def __init__(self):
        self.parts = []

    def __call__(self, inputs, cache=None) -> Any:
        self.parts.append(np.array(inputs))


PROMPTS = [np.arange(6, 16, dtype=np.int32), np.arange(20, 30, dtype=np.int32)]


def test_all_tokens_but_the_last_are_computed_in_parts():
    model = Model()
    prompts = Prompts(model, [], PROMPTS, policy_version=4)
    assert (prompts.num_prompts, prompts.num_tokens, prompts.remaining) == (2, 9, 18)
    taken = []
    while prompts.remaining:
        taken.append((prompts.advance(9), prompts.remaining))
    assert taken == [(8, 10), (8, 2), (2, 0)]
    together = np.concatenate(model.parts, axis=1).tolist()
    assert together == [list(range(6, 15)), list(range(20, 29))]
    assert prompts.policy_version == 4


def test_each_part_has_at_least_one_token():
    model = Model()
    prompts = Prompts(model, [], PROMPTS, 0)
    assert [prompts.advance(1) for _ in range(10)] == [2] * 9 + [0]
    assert [part.shape for part in model.parts] == [(2, 1)] * 9


def test_a_prompt_of_one_token_asks_nothing_of_the_model():
    model = Model()
    prompts = Prompts(model, [], [np.array([7], np.int32)], 0)
    assert prompts.remaining == 0 and prompts.advance(100) == 0
    assert model.parts == []


@pytest.mark.parametrize("part", [1, 3, 1000])
def test_keys_and_values_do_not_depend_on_the_parts(make_model, part):
    model = make_model("qwen3")
    prompts = Prompts(model, make_prompt_cache(model), PROMPTS, 0)
    while prompts.remaining:
        prompts.advance(part)
    whole = make_prompt_cache(model)
    model(mx.array(np.stack(PROMPTS))[:, :-1], cache=whole)
    for found, wanted in zip(prompts.caches, whole, strict=True):
        assert found.offset == 9
        for ours, theirs in zip(found.keys_and_values(), wanted.keys_and_values(), strict=True):
            np.testing.assert_allclose(np.array(ours), np.array(theirs), atol=1e-5, rtol=0)
