import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.fresh_memory import FreshMemory


@given(st.integers(1, 20_000), st.data())
def test_pieces_lie_where_they_were_put_and_the_rest_is_zeros(size, source):
    memory, expected = FreshMemory(size), bytearray(size)
    for _ in range(4):
        start = source.draw(st.integers(0, size))
        piece = source.draw(st.binary(max_size=min(5000, size - start)))
        memory.fill(start, piece)
        expected[start : start + len(piece)] = piece
    assert memory.data == expected


def test_a_kernel_that_cannot_populate_pages_still_fills_them(monkeypatch):
    monkeypatch.setattr("actors.fresh_memory._MADV_POPULATE_WRITE", 12345)  # no such advice
    memory = FreshMemory(10_000)
    memory.fill(5, b"one")
    memory.fill(9_000, b"two")
    assert (memory.data[5:8], memory.data[9_000:9_003]) == (b"one", b"two")


def test_the_memory_outlives_its_owner():
    memory = FreshMemory(4096)
    memory.fill(0, b"kept")
    data = memory.data
    del memory
    assert data[:4] == b"kept"


@pytest.mark.parametrize("num_bytes", [0, -1, 2**62, 2**63, 2**70])
def test_what_no_memory_can_hold_is_refused(num_bytes):
    with pytest.raises(MemoryError, match="no memory for"):
        FreshMemory(num_bytes)
