import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import BaseModel, ConfigDict, ValidationError

from protocol.fields import Logprobs, Name, TokenIds


class Fields(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    token_ids: TokenIds = np.zeros(0, "<i4")
    logprobs: Logprobs = np.zeros(0, "<f4")
    name: Name = "x"


@given(hnp.arrays("<f4", st.integers(0, 100)))
def test_every_float32_comes_back_bit_by_bit(array):
    packed = Fields(logprobs=array).model_dump()["logprobs"]
    assert packed == array.tobytes()
    assert Fields.model_validate({"logprobs": packed}).logprobs.tobytes() == array.tobytes()


def test_lists_and_big_endian_arrays_become_little_endian_int32():
    for given_as in ([1, 2], (1, 2), np.array([1, 2], ">i8"), np.array([1, 9, 2, 9], "<i4")[::2]):
        found = Fields.model_validate({"token_ids": given_as}).token_ids
        assert found.dtype == np.dtype("<i4")
        assert found.tobytes() == bytes.fromhex("0100000002000000")


@pytest.mark.parametrize("value", [None, {}, "abc", b"123", [[1]], [None], [2**40], object()])
def test_what_is_no_array_is_a_validation_error_and_no_other(value):
    with pytest.raises(ValidationError):
        Fields.model_validate({"token_ids": value})


@pytest.mark.parametrize("name", ["", "x" * 201, b"\xff", None])
def test_a_name_has_1_to_200_characters(name):
    with pytest.raises(ValidationError):
        Fields.model_validate({"name": name})
