"""Arrays as safetensors: read by mlx and by others, the same bytes each time, in any thread."""

import json
import threading

import mlx.core as mx
import numpy as np
import pytest

from learner.checkpoints.arrays import freeze, load_arrays, safetensors

DTYPES = [
    *(mx.float32, mx.bfloat16, mx.float16),
    *(mx.uint64, mx.uint32, mx.uint16, mx.uint8),
    *(mx.int64, mx.int32, mx.int16, mx.int8, mx.bool_),
]


def write(path, arrays, metadata=None):
    path.write_bytes(b"".join(safetensors(freeze(arrays), metadata)))
    return path


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_type_comes_back_as_it_was(tmp_path, dtype):
    array = mx.arange(12).reshape(3, 4).astype(dtype)
    found = load_arrays(write(tmp_path / "x.safetensors", {"a": array}))["a"]
    assert (found.dtype, found.shape) == (dtype, (3, 4))
    assert mx.array_equal(found, array)


def test_scalars_views_and_lazy_arrays_come_back(tmp_path):
    whole = mx.arange(24, dtype=mx.float32).reshape(4, 6)
    arrays = {
        "scalar": mx.array(7, mx.uint64),
        "transposed": whole.T,
        "strided": whole[::2, 1::2],
        "lazy": whole * 2 + 1,
        "broadcast": mx.broadcast_to(mx.array([1.0, 2.0]), (3, 2)),
    }
    found = load_arrays(write(tmp_path / "x.safetensors", arrays))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert mx.array_equal(found[name], array)


def test_the_header_is_what_the_format_says(tmp_path):
    arrays = {"b": mx.zeros((2, 3)), "a": mx.zeros(3, mx.bfloat16), "step": mx.array(1, mx.uint64)}
    data = write(tmp_path / "x.safetensors", arrays, {"format": "mlx"}).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    # widest types first, so that every value is aligned: 8, then 6 * 4, then 3 * 2 bytes
    assert header == {
        "__metadata__": {"format": "mlx"},
        "step": {"dtype": "U64", "shape": [], "data_offsets": [0, 8]},
        "b": {"dtype": "F32", "shape": [2, 3], "data_offsets": [8, 32]},
        "a": {"dtype": "BF16", "shape": [3], "data_offsets": [32, 38]},
    }
    assert length % 8 == 0
    assert len(data) == 8 + length + 38


def test_numpys_reader_of_the_format_agrees(tmp_path):
    numpy_reader = pytest.importorskip("safetensors.numpy")
    arrays = {"b": mx.random.normal((5, 7)), "a": mx.arange(9)}
    found = numpy_reader.load_file(write(tmp_path / "x.safetensors", arrays))
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], np.array(array))


def test_the_same_arrays_are_the_same_bytes_in_any_order():
    arrays = {f"layer{i}": mx.full((i + 1,), i) for i in range(30)}
    turned = dict(reversed(arrays.items()))
    assert b"".join(safetensors(freeze(arrays))) == b"".join(safetensors(freeze(turned)))


def test_another_thread_writes_what_was_frozen_whatever_training_does():
    array = mx.random.normal((64, 64))
    frozen, before = freeze({"a": array}), np.array(array).tobytes()
    for _ in range(5):  # the name, then the memory, would be free to take
        array = array * 2 + 1
        mx.eval(array)
    written: list[bytes] = []
    thread = threading.Thread(target=lambda: written.append(b"".join(safetensors(frozen))))
    thread.start()
    thread.join()
    assert written[0].endswith(before)


def test_nothing_is_copied():
    array = mx.zeros((1024, 1024))
    mx.eval(array)
    before = mx.get_active_memory()
    frozen = freeze({"a": array})
    assert mx.get_active_memory() == before
    assert frozen[0].data.readonly
