import threading

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from actors import prepared
from actors.fetch import Fetched
from actors.prepared import prepare
from protocol.errors import WeightsError
from protocol.messages import Manifest
from protocol.weights import pack

SHAPES = {"matrix": (5, 7), "vector": (3,), "scalar": (), "empty": (0, 4)}


def manifest_of(packed):
    return Manifest(
        run_epoch=1,
        policy_version=1,
        kind="full",
        digest=packed.digest,
        weights_digest=packed.digest,
        base_digest="",
        tensors=packed.tensors,
        chunk_bytes=100,
        total_bytes=len(packed.data),
    )


def in_a_thread(work):
    results = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "uint32", "uint8", "int32"])
@pytest.mark.parametrize("compute", [mx.float32, mx.bfloat16, mx.float16])
def test_what_a_thread_prepared_is_the_version_in_the_main_thread(dtype, compute):
    mx.random.seed(1)
    wanted = {
        name: (100 * mx.random.normal(shape)).astype(getattr(mx, dtype))
        for name, shape in SHAPES.items()
    }
    packed = pack(wanted.items())
    made = in_a_thread(lambda: prepare(Fetched(manifest_of(packed), packed.data), compute))
    found = made.weights()
    assert found.keys() == wanted.keys()
    for name, array in found.items():
        assert array.shape == wanted[name].shape
        # as Policy.apply casts it, and then bit by bit
        ours, theirs = array.astype(compute), wanted[name].astype(compute)
        assert mx.array_equal(ours, theirs)
    floats = dtype in ("bfloat16", "float16", "float32")
    if compute == mx.float32 and floats:
        assert {array.dtype for array in found.values()} == {mx.float32}  # nothing left to cast


def test_every_number_of_bfloat16_and_float16_is_converted_as_mlx_converts_it():
    words = mx.arange(2**16).astype(mx.uint16)
    for dtype in (mx.bfloat16, mx.float16):
        numbers = words.view(dtype)
        packed = pack([("all", numbers)])
        made = prepare(Fetched(manifest_of(packed), packed.data), mx.float32)
        found = np.array(made.weights()["all"])
        wanted = np.array(numbers.astype(mx.float32))
        finite = np.isfinite(wanted)
        assert np.array_equal(found[finite].view(np.uint32), wanted[finite].view(np.uint32))
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("compute", [mx.float32, mx.bfloat16])
def test_arrays_do_not_share_the_bytes(compute):
    packed = pack([("a", mx.array([1.0, 2.0])), ("b", mx.array([3.0], mx.bfloat16))])
    data = bytearray(packed.data)
    made = prepare(Fetched(manifest_of(packed), data), compute)
    data[:] = bytes(len(data))
    assert {name: array.tolist() for name, array in made.weights().items()} == {
        "a": [1.0, 2.0],
        "b": [3.0],
    }


def test_bytes_that_do_not_fill_the_shape_are_refused():
    packed = pack([("a", mx.zeros((4, 4)))])
    odd = packed.tensors[0].model_copy(update={"shape": (4, 5)})
    manifest = manifest_of(packed).model_copy(update={"tensors": (odd,)})
    with pytest.raises(WeightsError, match="64 bytes for shape"):
        prepare(Fetched(manifest, packed.data), mx.float32)


@pytest.mark.parametrize(
    "shape", [(2**32, 2**32), (2**32, 0), (2**31, 0), (2**62, 2**62, 0), (2**64,)]
)
def test_shapes_beyond_all_numbers_are_refused(shape):
    packed = pack([("a", mx.zeros((0,)))])
    odd = packed.tensors[0].model_copy(update={"shape": shape})
    manifest = manifest_of(packed).model_copy(update={"tensors": (odd,)})
    with pytest.raises(WeightsError, match="a"):
        prepare(Fetched(manifest, packed.data), mx.float32)


def test_no_memory_for_a_tensor_is_a_refusal(monkeypatch):
    def no_room(*_):
        raise MemoryError

    packed = pack([("a", mx.zeros((4,)))])
    monkeypatch.setattr(prepared, "_float32", no_room)
    with pytest.raises(WeightsError, match="no memory for a of 16 bytes"):
        prepare(Fetched(manifest_of(packed), packed.data), mx.float32)


def test_a_policy_computes_with_what_was_prepared(tiny):
    held = sorted(tiny.trained().items())
    moved = [(name, (array + 0.25).astype(mx.bfloat16)) for name, array in held]
    packed = pack(moved)
    made = in_a_thread(
        lambda: prepare(Fetched(manifest_of(packed), packed.data), tiny.compute_dtype)
    )
    try:
        tiny.apply(made.weights())
        found = dict(tree_flatten(tiny.model.parameters()))
        assert all(mx.array_equal(found[name], array) for name, array in moved)
    finally:
        tiny.apply(dict(held))
