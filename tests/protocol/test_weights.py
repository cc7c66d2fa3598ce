from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.blas import preload_blas

preload_blas()

import mlx.core as mx  # noqa: E402 - the BLAS must be loaded first

from protocol.weights import (  # noqa: E402
    combined_digest,
    digest_of,
    file_digest,
    freeze,
    join,
    pack,
)

UNSIGNED = {1: mx.uint8, 2: mx.uint16, 4: mx.uint32}
DTYPES = [mx.bfloat16, mx.float16, mx.float32, mx.uint32, mx.uint8, mx.int32]
TWO = [("a", mx.array([1.0, 2.0])), ("b", mx.array([[3, 4]], mx.uint32))]


def bits(array):
    return np.array(array.reshape(-1).view(UNSIGNED[array.dtype.size])).tolist()


def packed_bits(packed, name):
    """The tensor's words, from where it lies among the bytes of all."""
    start = 0
    for spec in packed.tensors:
        if spec.name == name:
            width = getattr(mx, spec.dtype).size
            return np.frombuffer(packed.data[start : start + spec.num_bytes], f"<u{width}").tolist()
        start += spec.num_bytes
    raise KeyError(name)


def random_array(dtype, shape, seed=0):
    """Any bit pattern, NaNs and subnormals among them."""
    unsigned = UNSIGNED[dtype.size]
    high = 2 ** (8 * dtype.size)
    values = np.random.default_rng(seed).integers(0, high, int(np.prod(shape)), np.uint64)
    return mx.array(values).astype(unsigned).view(dtype).reshape(shape)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 4), (0,), (0, 3), (3, 0)])
def test_arrays_are_packed_bit_for_bit(dtype, shape):
    array = random_array(dtype, shape)
    packed = pack([("before", mx.array([1.0])), ("x", array), ("after", mx.array([2], mx.uint8))])
    assert [spec.name for spec in packed.tensors] == ["before", "x", "after"]
    spec = packed.tensors[1]
    assert (getattr(mx, spec.dtype), spec.shape) == (dtype, shape)
    assert spec.num_bytes == array.nbytes
    assert packed_bits(packed, "x") == bits(array)
    assert packed_bits(packed, "after") == [2]


def test_arrays_that_are_not_contiguous_are_packed_in_their_order():
    whole = random_array(mx.bfloat16, (6, 8))
    for view in (whole.T, whole[1:5, 2:7], whole[::2, ::3], mx.broadcast_to(whole[0], (4, 8))):
        packed = pack([("x", view)])
        assert packed_bits(packed, "x") == bits(mx.contiguous(view))


def test_bytes_lie_in_the_given_order_and_cannot_be_changed():
    packed = pack(TWO)
    wanted = np.array([1.0, 2.0], "<f4").tobytes() + np.array([3, 4], "<u4").tobytes()
    assert bytes(packed.data) == wanted
    assert packed.digest == digest_of(wanted)
    assert [spec.name for spec in packed.tensors] == ["a", "b"]
    with pytest.raises(TypeError):
        packed.data[0] = 1


def test_a_frozen_version_keeps_its_bytes_whatever_becomes_of_its_arrays():
    arrays = {"a": random_array(mx.bfloat16, (50, 70)), "b": random_array(mx.float32, (999,)).T}
    wanted = pack(arrays.items())
    frozen = freeze(arrays.items())
    arrays["a"] += 1
    mx.eval(arrays)
    del arrays
    mx.clear_cache()
    others = [mx.zeros((50, 70), mx.bfloat16) + i for i in range(20)]
    mx.eval(others)
    with ThreadPoolExecutor(1) as other_thread:
        digest = other_thread.submit(frozen.digest).result()
        packed = other_thread.submit(join, frozen, digest).result()
    assert (packed.tensors, packed.digest) == (wanted.tensors, wanted.digest)
    assert packed.data == wanted.data


def test_an_empty_version_is_no_bytes():
    packed = pack([])
    assert (packed.tensors, len(packed.data)) == ((), 0)


@given(st.binary(min_size=1, max_size=300), st.data())
@settings(max_examples=60, deadline=None)
def test_any_flipped_bit_changes_the_digest(data, source):
    damaged = bytearray(data)
    damaged[source.draw(st.integers(0, len(data) - 1))] ^= 1 << source.draw(st.integers(0, 7))
    assert digest_of(damaged) != digest_of(data)


def test_the_digest_is_xxh3_128_in_hexadecimal():
    # the empty input's published value
    assert digest_of(b"") == "99aa06d3014798d86001c324468d497f"
    assert digest_of(memoryview(b"ab")) == digest_of(bytearray(b"ab")) == digest_of(b"ab")


def test_the_digest_of_many_arrays_depends_on_names_values_and_order():
    digest = combined_digest(TWO)
    assert digest == combined_digest([(name, mx.array(array)) for name, array in TWO])
    assert digest != combined_digest([TWO[1], TWO[0]])
    assert digest != combined_digest([("c", TWO[0][1]), TWO[1]])
    assert digest != combined_digest([("a", mx.array([1.0, 2.5])), TWO[1]])
    assert digest != combined_digest(TWO[:1])
    assert combined_digest([]) == digest_of(b"")


def test_the_digest_of_a_view_is_that_of_its_values():
    array = random_array(mx.float16, (4, 6))
    assert combined_digest([("x", array.T)]) == combined_digest([("x", mx.contiguous(array.T))])


def test_a_files_digest_is_that_of_its_bytes_across_blocks(tmp_path):
    data = bytes(range(256)) * 9000  # more than two blocks of 1 MiB
    (tmp_path / "arrays").write_bytes(data)
    assert file_digest(tmp_path / "arrays") == digest_of(data)
