import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.padding import padded


@pytest.mark.parametrize(
    ("length", "wanted"),
    # by 8 up to 128, by 16 up to 256, by 128 from 1024 on: at most 1/8 of what is needed
    [(1, 8), (8, 8), (9, 16), (64, 64), (65, 72), (127, 128), (129, 144), (256, 256), (1025, 1152)],
)
def test_lengths_are_padded_to_few_sizes(length, wanted):
    assert padded(length) == wanted


@given(st.integers(1, 100_000))
def test_padding_wastes_little(length):
    assert 0 <= padded(length) - length < max(8, length / 8 + 1)
    assert padded(padded(length)) == padded(length)
