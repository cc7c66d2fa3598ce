import inspect

import pytest

from actors.batches.batch import Batch, Need
from actors.batches.merged import Merged
from actors.batches.rows import Rows
from actors.batches.single import Single

KINDS = [Rows, Merged, Single]


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_batch_has_all_that_an_engine_needs(kind):
    names = [name for name in vars(Batch) if not name.startswith("_")]
    assert {"open", "join", "keep", "logits", "tokens_to_hold", "bytes_per_token"} <= set(names)
    for name in names:
        wanted = inspect.getattr_static(Batch, name)
        if inspect.isfunction(wanted):
            assert list(inspect.signature(getattr(kind, name)).parameters) == list(
                inspect.signature(wanted).parameters
            )
        assert hasattr(kind, name)
    assert isinstance(kind.prompts_together, bool)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_per_token_are_known_from_the_first_token_on(kind, make_model, decoded):
    # keys and values, 2 layers, 2 heads of 8 numbers in fp32
    state = decoded(model := make_model("qwen2"), kind(model))
    assert state.batch.bytes_per_token is None
    state.join([[9]], [0, 0])
    state.check()
    assert state.batch.bytes_per_token == 2 * 2 * 2 * 8 * 4
    state.keep([])
    assert state.batch.bytes_per_token is None


@pytest.mark.parametrize("kind", KINDS)
def test_room_for_more_rows_is_more_room(kind, make_model):
    batch = kind(make_model("qwen2"))
    one = batch.tokens_to_hold([Need(20, 10, 1)])
    assert one >= 29
    assert batch.tokens_to_hold([Need(20, 10, 3)]) == 3 * one
    assert batch.tokens_to_hold([Need(20, 10, 1), Need(20, 10, 2)]) == 3 * one
