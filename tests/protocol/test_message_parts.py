import pytest
from pydantic import ValidationError

from protocol.message_parts import NamedReward, RolloutAck, TensorSpec


def test_a_field_that_a_newer_peer_says_is_ignored():
    ack = RolloutAck.model_validate(
        {"group_id": 1, "attempt": 1, "sample": 0, "accepted": True, "mood": "fine"}
    )
    assert (ack.group_id, ack.accepted, ack.reason) == (1, True, "")


@pytest.mark.parametrize(
    ("part", "fields"),
    [
        (TensorSpec, {"name": "w", "dtype": "float64", "shape": (1,), "num_bytes": 8}),
        (TensorSpec, {"name": "w", "dtype": "float32", "shape": (-1,), "num_bytes": 4}),
        (NamedReward, {"name": "r", "reward": float("nan")}),
        (RolloutAck, {"group_id": 2**53 + 1, "attempt": 1, "sample": 0, "accepted": True}),
    ],
)
def test_what_cannot_be_meant_is_refused(part, fields):
    with pytest.raises(ValidationError):
        part.model_validate(fields)
