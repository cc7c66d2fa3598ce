import contextlib
import struct
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
import xxhash
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import delta
from protocol.delta import apply_delta, encode_delta
from protocol.errors import WeightsError
from protocol.message_parts import TensorSpec

WORD_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "uint32": 4, "uint8": 1, "int32": 4}
SHAPES = [(), (1,), (7,), (3, 5), (0,), (0, 3), (2, 3, 4), (129,)]
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
RAW, RLE, RESERVED = 0, 1, 3


def tensor(dtype="bfloat16", shape=(4,), name="x"):
    num_bytes = int(np.prod(shape, dtype=np.int64)) * WORD_BYTES[dtype]
    fields = {"name": name, "dtype": dtype, "shape": shape, "num_bytes": num_bytes}
    return TensorSpec.model_validate(fields)


def size_of(tensors):
    return sum(spec.num_bytes for spec in tensors)


def bf16(values):
    """float32 rounded to bfloat16, to nearest even, as uint16."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def block(kind, size, content=b"", *, is_last=False):
    return (size << 3 | kind << 1 | is_last).to_bytes(3, "little") + content


def frame(content_size, *blocks):
    """A zstd frame made by hand: single segment, 8 bytes of content size, no checksum."""
    return ZSTD_MAGIC + bytes([0b1110_0000]) + struct.pack("<Q", content_size) + b"".join(blocks)


FOUR = (tensor(shape=(4,)),)
OLD = bytes(range(8))
NEW = bytes([0, 1, 2, 3, 5, 5, 6, 9])
PAYLOAD = encode_delta(FOUR, OLD, NEW)


@st.composite
def two_versions(draw):
    drawn = st.tuples(st.sampled_from(sorted(WORD_BYTES)), st.sampled_from(SHAPES))
    tensors = [
        tensor(dtype, shape, f"t{index}")
        for index, (dtype, shape) in enumerate(draw(st.lists(drawn, max_size=5)))
    ]
    size = size_of(tensors)
    old = draw(st.binary(min_size=size, max_size=size))
    new = bytearray(old)
    for place in draw(st.lists(st.integers(0, size - 1), max_size=20)) if size else ():
        new[place] = draw(st.integers(0, 255))
    return tensors, old, bytes(new)


@given(two_versions())
@settings(max_examples=200)
def test_a_delta_gives_the_new_version_back(versions):
    tensors, old, new = versions
    found = apply_delta(tensors, old, encode_delta(tensors, old, new))
    assert isinstance(found, memoryview)
    assert found == new


@pytest.mark.parametrize("dtype", sorted(WORD_BYTES))
@pytest.mark.parametrize("shape", [*SHAPES, (300_001,)])
def test_any_bits_of_any_dtype_and_shape_come_back(dtype, shape):
    # the byte in front puts the tensor at an odd address; 300,001 words are more than two blocks
    tensors = [tensor("uint8", (1,)), tensor(dtype, shape), tensor("float32", (2,))]
    generator = np.random.default_rng(1)
    old, new = (generator.bytes(size_of(tensors)) for _ in range(2))
    for given_as in (bytes, bytearray, memoryview):
        payload = encode_delta(tensors, given_as(old), given_as(new))
        assert apply_delta(tensors, given_as(old), given_as(payload)) == new


def test_a_change_in_the_last_block_alone_is_found():
    tensors = [tensor("float32", (400_000,))]
    old = bytes(size_of(tensors))
    new = old[:-4] + b"\x01\x02\x03\x04"
    assert apply_delta(tensors, old, encode_delta(tensors, old, new)) == new


def test_the_frame_holds_the_planes_of_each_tensor_the_high_bytes_first():
    tensors = [tensor(shape=(2,)), tensor("uint32", (2,)), tensor("uint8", (3,))]
    old = bytes(15)
    new = bytes([1, 2, 3, 4]) + bytes([11, 12, 13, 14, 15, 16, 17, 18]) + bytes([21, 22, 23])
    planes = [*(2, 4, 1, 3), *(14, 18, 13, 17, 12, 16, 11, 15), *(21, 22, 23)]
    assert zstandard.decompress(encode_delta(tensors, old, new)) == bytes(planes)
    ones = bytes([255]) * 15
    flipped = bytes(byte ^ 255 for byte in new)
    assert encode_delta(tensors, ones, flipped) == encode_delta(tensors, old, new)


def test_fifty_versions_in_a_chain_are_bit_equal():
    tensors = [tensor(shape=(300, 20)), tensor("float32", (77,)), tensor("uint8", ())]
    generator = np.random.default_rng(2)
    version = np.frombuffer(generator.bytes(size_of(tensors)), np.uint8).copy()
    first = held = version.tobytes()
    for _ in range(50):
        older = version.tobytes()
        version[generator.integers(0, version.size, 40)] ^= 1
        held = apply_delta(tensors, held, encode_delta(tensors, older, version.data))
        assert held == version.tobytes()
    assert held != first


def test_equal_versions_give_a_tiny_payload():
    tensors = [tensor(shape=(1000, 1000)), tensor("float32", (1000,))]
    old = np.random.default_rng(3).bytes(size_of(tensors))
    payload = encode_delta(tensors, old, old)
    assert len(payload) < 300
    assert apply_delta(tensors, old, payload) == old


def test_a_version_of_no_bytes_has_a_delta():
    for tensors in ([], [tensor(shape=(0,))]):
        assert apply_delta(tensors, b"", encode_delta(tensors, b"", b"")) == b""


@pytest.mark.parametrize(("learning_rate", "ratio"), [(1e-6, 50), (1e-5, 20)])
def test_an_adam_step_of_bf16_weights_is_small(learning_rate, ratio):
    # SmolLM2's spread (0.18); a step of Adam moves each fp32 master by about its rate at most
    generator = np.random.default_rng(4)
    tensors = [tensor(shape=(1000, 1000), name=name) for name in "ab"]
    masters = generator.normal(0.0, 0.18, 2_000_000).astype(np.float32)
    step = learning_rate * generator.uniform(-1.0, 1.0, masters.size).astype(np.float32)
    old, new = bf16(masters).tobytes(), bf16(masters + step).tobytes()
    payload = encode_delta(tensors, old, new)
    assert old != new
    assert len(old) / len(payload) > ratio
    assert apply_delta(tensors, old, payload) == new


def test_a_delta_of_another_base_gives_bytes_of_another_digest():
    other = bytes([9]) + OLD[1:]
    found = apply_delta(FOUR, other, PAYLOAD)
    assert len(found) == len(NEW)
    assert xxhash.xxh3_128_hexdigest(found) != xxhash.xxh3_128_hexdigest(NEW)


def test_the_old_version_is_left_as_it_was():
    old = bytearray(OLD)
    apply_delta(FOUR, old, PAYLOAD)
    assert old == OLD


@pytest.mark.parametrize(
    "tensors",
    [
        (),
        (tensor(shape=(3,)),),
        (tensor(shape=(5,)),),
        (tensor(shape=(4,)), tensor(shape=(1,))),
        (tensor().model_copy(update={"num_bytes": 7}), tensor("uint8", (1,))),
    ],
    ids=["none", "too few", "too many", "one more", "half a word"],
)
def test_tensors_that_do_not_fill_the_version_are_refused(tensors):
    with pytest.raises(WeightsError, match="bytes"):
        encode_delta(tensors, OLD, NEW)
    with pytest.raises(WeightsError, match="bytes"):
        apply_delta(tensors, OLD, PAYLOAD)


def test_versions_of_two_sizes_have_no_delta():
    for old, new in ((OLD[:-2], NEW), (OLD, NEW[:-2]), (OLD, NEW + b"xx")):
        with pytest.raises(WeightsError, match="do not fill"):
            encode_delta(FOUR, old, new)


HOSTILE = {
    "nothing": b"",
    "no zstd": b"these are no zstd bytes at all",
    "magic alone": ZSTD_MAGIC,
    "header alone": frame(8),
    "skippable frame": b"\x50\x2a\x4d\x18" + struct.pack("<I", 8) + bytes(8),
    "skippable frame that looks whole": b"\x50\x2a\x4d\x18"
    + struct.pack("<I", 8)
    + b"\0"  # read as a header, with two bytes before: an empty block
    + block(RAW, 4, b"1234", is_last=True),
    "another size": encode_delta((tensor(shape=(5,)),), bytes(10), bytes(10)),
    "no size": zstandard.ZstdCompressor(write_content_size=False).compress(OLD),
    "a bomb": zstandard.ZstdCompressor().compress(bytes(2**28)),
    "a bomb with the right size": frame(8, block(RLE, 2**17, b"x") * 2000, block(RAW, 0, b"")),
    "one byte more": frame(8, block(RAW, 9, b"123456789", is_last=True)),
    "a byte in a second block": frame(8, block(RAW, 8, OLD), block(RAW, 1, b"x", is_last=True)),
    "one byte less": frame(8, block(RAW, 7, b"1234567", is_last=True)),
    "no last block": frame(8, block(RAW, 8, OLD)),
    "a reserved block": frame(8, block(RESERVED, 8, OLD, is_last=True)),
    "a block beyond the end": frame(8, block(RAW, 2**20, OLD, is_last=True)),
    "trailing byte": PAYLOAD + b"x",
    "trailing frame": PAYLOAD + PAYLOAD,
    "trailing empty frame": PAYLOAD + frame(0, block(RAW, 0, is_last=True)),
    "trailing skippable frame": PAYLOAD + b"\x50\x2a\x4d\x18" + bytes(4),
}


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_payload_is_refused(payload):
    with pytest.raises(WeightsError, match="delta"):
        apply_delta(FOUR, OLD, payload)


@pytest.mark.parametrize("more", [0, 1, 2**17])
def test_content_behind_the_last_tensor_is_refused(more):
    # the tensors are whole before the frame's last block is looked at
    tensors = [tensor("uint8", (2**17,)), tensor("uint8", (2**17,))]
    zeros = block(RLE, 2**17, b"\0")
    blocks = zeros + zeros + block(RAW, more, bytes(more), is_last=True)
    window_of_128_kib = bytes([0b1100_0000, 7 << 3])
    payload = ZSTD_MAGIC + window_of_128_kib + struct.pack("<Q", 2**18) + blocks
    old = bytes(2**18)
    if more:
        with pytest.raises(WeightsError, match="delta"):
            apply_delta(tensors, old, payload)
    else:
        assert apply_delta(tensors, old, payload) == old


def test_frames_made_by_hand_are_read_if_nothing_is_wrong_with_them():
    # the control of the hostile ones
    payload = frame(8, block(RLE, 8, b"\0", is_last=True))
    assert apply_delta(FOUR, OLD, payload) == OLD
    payload = frame(8, block(RAW, 8, bytes(8)), block(RAW, 0, is_last=True))
    assert apply_delta(FOUR, OLD, payload) == OLD
    payload = zstandard.ZstdCompressor(write_checksum=True).compress(bytes(8))
    assert apply_delta(FOUR, OLD, payload) == OLD


def test_every_cut_is_refused():
    tensors = [tensor("float32", (3000,))]
    old, new = (np.random.default_rng(seed).bytes(12_000) for seed in (5, 6))
    for payload, base in ((PAYLOAD, OLD), (encode_delta(tensors, old, new), old)):
        specs = FOUR if base is OLD else tensors
        for stop in {*range(40), *range(0, len(payload), 97), len(payload) - 1} - {len(payload)}:
            if stop < len(payload):
                with pytest.raises(WeightsError, match="delta"):
                    apply_delta(specs, base, payload[:stop])


@given(st.data())
def test_damage_is_refused_or_gives_a_version_of_the_same_size(source):
    tensors = [tensor(shape=(500,))]
    old = bytes(1000)
    new = bytearray(old)
    new[::37] = bytes(range(len(new[::37])))
    payload = bytearray(encode_delta(tensors, old, new))
    payload[source.draw(st.integers(0, len(payload) - 1))] ^= 1 << source.draw(st.integers(0, 7))
    with contextlib.suppress(WeightsError):
        assert len(apply_delta(tensors, old, payload)) == len(old)


@pytest.mark.parametrize("window_log", [19, 22])
def test_a_frame_that_wants_a_large_window_is_refused(window_log):
    # two tensors: a frame that fits into one read is decoded there, with no window
    tensors = [tensor("uint8", (2**22,)), tensor("uint8", (2**22,))]
    old = bytes(2**23)
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=window_log)
    payload = zstandard.ZstdCompressor(compression_params=parameters).compress(old)
    if window_log == 19:
        assert apply_delta(tensors, old, payload) == old
    else:
        with pytest.raises(WeightsError, match="memory"):
            apply_delta(tensors, old, payload)


@pytest.mark.parametrize("size", [10, 100_000, 3_000_000])
def test_what_is_encoded_stays_below_the_window_that_is_allowed(size):
    tensors = [tensor("uint8", (size,))]
    old, new = (np.random.default_rng(seed).bytes(size) for seed in (7, 8))
    payload = encode_delta(tensors, old, new)
    assert zstandard.get_frame_parameters(payload).window_size <= 2**19
    assert apply_delta(tensors, old, payload) == new


def peak_bytes(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_no_second_copy_of_the_version_is_made():
    tensors = [tensor(shape=(2**19,), name=str(index)) for index in range(16)]  # 16 times 1 MiB
    old = memoryview(np.random.default_rng(9).bytes(2**24))
    new = bytearray(old)
    new[::4096] = bytes(len(new[::4096]))
    payload = encode_delta(tensors, old, new)
    blocks = 4 * 2 * delta._BLOCK_WORDS  # pyright: ignore[reportPrivateUsage]
    assert peak_bytes(lambda: encode_delta(tensors, old, new)) < 2**20 + blocks + 2**20
    assert peak_bytes(lambda: apply_delta(tensors, old, payload)) < 2**24 + 2**20 + blocks + 2**20


BOMB = """
import resource, sys
from protocol.delta import apply_delta
from protocol.errors import WeightsError
from protocol.message_parts import TensorSpec
payload = sys.stdin.buffer.read()
tensors = [TensorSpec(name="x", dtype="uint8", shape=(8,), num_bytes=8)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for _ in range(3):
    try:
        apply_delta(tensors, bytes(8), payload)
    except WeightsError:
        print("refused")
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(grown // (2**20 if sys.platform == "darwin" else 2**10))
"""


@pytest.mark.parametrize("name", ["a bomb", "a bomb with the right size"])
def test_a_bomb_takes_no_memory_outside_python_either(name):
    done = subprocess.run(
        [sys.executable, "-c", BOMB], input=HOSTILE[name], capture_output=True, check=True
    )
    *refused, grown_mib = done.stdout.decode().split()
    assert refused == ["refused"] * 3
    assert int(grown_mib) < 20  # of 256 MiB
