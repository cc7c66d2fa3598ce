import pytest

from actors.batches.batch import Need
from actors.batches.single import Single

SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8}


@pytest.mark.parametrize(
    ("model_type", "fields"),
    [("llama", SLIDING), ("gemma2", {"query_pre_attn_scalar": 8.0})],
)
def test_logits_are_those_of_a_forward_pass(make_model, decoded, model_type, fields):
    state = decoded(model := make_model(model_type, **fields), Single(model))
    entering = state.join([range(6, 20)], [0, 0], part=5)
    state.check(2)
    state.join([[9]], [0])
    state.check(2)
    state.keep([2, 0])
    state.check(9)
    state.join_again(entering, [0])
    state.check(2)
    state.keep([])
    state.join([[9]], [0])
    state.check()


def test_prompts_come_one_by_one(make_model):
    batch = Single(make_model("llama"))
    assert not batch.prompts_together
    with pytest.raises(AssertionError):
        batch.open(2)


def test_room_is_made_for_each_row_by_itself(make_model):
    batch = Single(make_model("llama"))
    needs = [Need(300, 100, 4), Need(20, 10, 3)]
    assert batch.tokens_to_hold(needs) == 4 * (400 + 256) + 3 * (30 + 256)
