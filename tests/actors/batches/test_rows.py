import numpy as np
import pytest

from actors.batches.batch import Need
from actors.batches.prompts import Prompts
from actors.batches.rows import Layout, Rows, keeps_plain_keys_and_values

SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8}


@pytest.mark.parametrize("shared_prompt_tokens", [None, 1, 14])
@pytest.mark.parametrize("model_type", ["llama", "qwen3", "gemma"])
def test_logits_are_those_of_a_forward_pass(
    make_model, check_whole_life, model_type, shared_prompt_tokens
):
    model = make_model(model_type)
    check_whole_life(model, Rows(model, shared_prompt_tokens))


def test_places_grow_over_their_first_length(make_model, decoded):
    state = decoded(model := make_model("llama", num_hidden_layers=1), Rows(model, None))
    state.join([range(6, 30)], [0, 0])
    state.join([[7, 8]], [0])
    state.check(70)
    assert state.batch._caches[0].keys.shape[2] == 128


def test_a_row_that_leaves_takes_its_long_place_with_it(make_model, decoded):
    state = decoded(model := make_model("llama"), Rows(model, None))
    state.join([[6 + i % 30 for i in range(200)]], [0])
    state.join([[7, 8]], [0, 0])
    state.check()
    state.keep([1, 2])
    assert {cache.keys.shape[:3] for cache in state.batch._caches} == {(2, 2, 64)}
    state.check(2)


def test_a_shared_prompt_is_forgotten_with_its_last_row(make_model, decoded):
    state = decoded(model := make_model("llama"), Rows(model, 2))
    entering = state.join([range(6, 20), range(7, 21)], [0, 0, 1])
    state.join([[9]], [0])
    state.join([range(8, 10)], [0])  # another prompt, of another length
    assert [(s.prompts, s.prompt, s.count) for s in state.batch._layout.segments] == [
        (entering, 0, 2),
        (entering, 1, 1),
        (None, 0, 2),
    ]
    state.keep([3, 4])
    assert [(s.prompts, s.count) for s in state.batch._layout.segments] == [(None, 2)]
    state.check(2)


def test_rows_of_equal_length_need_no_mask(make_model):
    prompts = Prompts(make_model("llama"), [], [np.arange(5, dtype=np.int32)], 0)
    layout = Layout()
    layout.join(prompts, [0, 0], is_shared=False)
    assert layout.is_even and layout.mask is None and layout.width == 5
    layout.advance()
    layout.join(prompts, [0], is_shared=True)  # reads 4 of the prompt, holds none
    assert not layout.is_even and layout.width == 6
    assert np.array(layout.offsets_B).tolist() == [5, 5, 4]
    assert np.array(layout.positions_B).tolist() == [5, 5, 0]
    assert np.array(layout.mask)[:, 0, 0].sum(axis=-1).tolist() == [6, 6, 1]
    layout.keep(np.array([2], np.intp))
    assert layout.is_even and layout.width == 1 and layout.mask is None


def test_room_is_made_for_as_many_places_as_the_longest_row(make_model):
    model = make_model("llama")
    needs = [Need(300, 100, 4), Need(20, 10, 3)]
    # 399 tokens: 7 times 64; shared, the longest own place has 100: 2 times 64
    assert Rows(model, None).tokens_to_hold(needs) == 7 * 448
    assert Rows(model, None).tokens_to_hold([Need(29, 100, 4)]) == 4 * 128
    assert Rows(model, 128).tokens_to_hold(needs) == 7 * 128 + 512


def test_only_models_with_plain_caches_suit(make_model):
    assert keeps_plain_keys_and_values(make_model("qwen2"))
    assert not keeps_plain_keys_and_values(make_model("llama", **SLIDING))
