import pytest

from actors.batches.batch import Need
from actors.batches.merged import Merged

SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8}
CONVOLUTION = {
    "norm_eps": 1e-5,
    "conv_bias": False,
    "conv_L_cache": 3,
    "block_dim": 32,
    "block_ff_dim": 64,
    "block_multiple_of": 8,
    "block_ffn_dim_multiplier": 1.0,
    "block_auto_adjust_ff_dim": False,
    "full_attn_idxs": [1],
}


@pytest.mark.parametrize(
    ("model_type", "fields"), [("llama", {}), ("llama", SLIDING), ("lfm2", CONVOLUTION)]
)
def test_logits_are_those_of_a_forward_pass(make_model, check_whole_life, model_type, fields):
    model = make_model(model_type, **fields)
    check_whole_life(model, Merged(model))


def test_prompts_stay_as_they_are_for_rows_that_join_later(make_model, decoded):
    state = decoded(model := make_model("llama", **SLIDING), Merged(model))
    entering = state.join([range(6, 20)], [0])
    state.check(9)
    state.join_again(entering, [0])
    state.check(3)


def test_room_is_made_for_rows_padded_to_the_longest(make_model):
    batch = Merged(make_model("llama", **SLIDING))
    assert batch.tokens_to_hold([Need(300, 100, 4), Need(20, 10, 3)]) == 7 * (400 + 256)
