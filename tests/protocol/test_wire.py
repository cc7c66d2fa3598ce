import random
import struct
import time

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import messages as m
from protocol.errors import VersionError, WireError
from protocol.fields import MAX_ITEMS
from protocol.messages import (
    MESSAGE_TYPES,
    PROTOCOL_VERSION,
    Chunk,
    Goodbye,
    Heartbeat,
    Manifest,
    Rollout,
)
from protocol.wire import (
    MAGIC,
    MAX_CONTAINERS,
    MAX_ERROR_TEXT,
    MAX_FRAME_BYTES,
    Buffer,
    decode,
    decode_single,
    encode,
    encode_single,
)


def header(magic=MAGIC, version=PROTOCOL_VERSION, code=Goodbye.code):
    return struct.pack(">4sHH", magic, version, code)


def frames_of(message_type, body) -> list[Buffer]:
    packed = body if isinstance(body, bytes) else msgpack.packb(body)
    return [header(code=message_type.code), packed]


def decode_or_wire_error(frames):
    """Whatever else comes out of `decode` fails the test."""
    try:
        return decode(frames)
    except WireError as error:
        return error


# --- frames ---------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [b"", b"\0" * 1000, memoryview(b"abc")])
def test_a_chunks_raw_frame_travels_beside_it_without_a_copy(raw):
    frames = encode(Chunk(policy_version=1, digest="ab", index=0), raw)
    assert frames[2] is raw
    assert decode(frames).raw is raw


def test_frames_may_be_memory_views_as_sockets_give_them():
    frames = [memoryview(frame) for frame in encode(Goodbye(reason="über"))]
    assert decode(list(frames)).message == Goodbye(reason="über")


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50))
def test_a_message_in_a_single_frame_comes_back_as_it_was(run_id):
    notice = m.Notice(run_id=run_id, run_epoch=1, policy_version=2, digest="ab")
    assert decode_single(memoryview(encode_single(notice))).message == notice


@pytest.mark.parametrize("frame", [b"", b"MRLT", header(), header() + b"\xc1"])
def test_a_single_frame_that_is_cut_short_is_a_wire_error(frame):
    with pytest.raises(WireError):
        decode_single(frame)


# --- other versions ---------------------------------------------------------------------------


@pytest.mark.parametrize("version", [0, PROTOCOL_VERSION - 1, PROTOCOL_VERSION + 1, 65535])
def test_another_protocol_version_is_refused_in_a_sentence_with_both(version):
    sentence = rf"version {version}, .* version {PROTOCOL_VERSION}\b"
    with pytest.raises(VersionError, match=sentence) as caught:
        decode([header(version=version), b"of a form that this version need not know"])
    assert (caught.value.found, caught.value.wanted) == (version, PROTOCOL_VERSION)
    assert caught.value.reason == "protocol_version"


def test_a_newer_peers_extra_field_is_ignored():
    fields = {"reason": "done", "peer": "a", "mood": {"good": True}}
    assert decode(frames_of(Goodbye, fields)).message == Goodbye(reason="done", peer="a")


def test_a_newer_peers_extra_field_inside_a_part_is_ignored():
    part = {"group_id": 1, "attempt": 0, "tokens": 9, "more": 1}
    fields = {"peer": "a", "state": "", "policy_version": 0, "capacity": 1, "progress": [part]}
    heartbeat = decode(frames_of(Heartbeat, fields)).message
    assert isinstance(heartbeat, Heartbeat)
    assert heartbeat.progress == (m.LeaseProgress(group_id=1, attempt=0, tokens=9),)


# --- garbage ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([], "frames"),
        ([header()], "frames"),
        ([header(), b"", b"", b""], "frames"),
        ([header(), msgpack.packb({"reason": "x"}), b"raw"], "frames"),
        ([header()[:7], b"\x80"], "header"),
        ([header() + b"\0", b"\x80"], "header"),
        ([header(magic=b"HTTP"), b"\x80"], "header"),
        ([header(code=0), b"\x80"], "unknown_code"),
        ([header(code=65535), b"\x80"], "unknown_code"),
        ([header(), b""], "malformed"),
        ([header(), b"\x80\x80"], "malformed"),
        ([header(), b"\xc1"], "malformed"),
        ([header(), b"\x81\xa6reason\xa1\xff"], "malformed"),
        ([header(), b"\x81\x01\x02"], "malformed"),
        ([header(), b"\x80"], "invalid"),
        ([header(), b"\xc0"], "invalid"),
        ([header(), bytes(MAX_FRAME_BYTES + 1)], "too_large"),
    ],
)
def test_each_kind_of_bad_frames_has_a_reason_of_its_own(frames, reason):
    with pytest.raises(WireError) as caught:
        decode(frames)
    assert caught.value.reason == reason


def test_two_thousand_random_messages_raise_nothing_but_wire_errors():
    rng = random.Random(0)
    for _ in range(2000):
        frames = [rng.randbytes(rng.choice([0, 1, 8, 50])) for _ in range(rng.randrange(5))]
        assert isinstance(decode_or_wire_error(frames), WireError)


@given(code=st.sampled_from(sorted(MESSAGE_TYPES)), body=st.binary(max_size=300))
def test_a_random_body_under_a_good_header_raises_nothing_but_a_wire_error(code, body):
    decode_or_wire_error([header(code=code), body])


ROLLOUT = {
    "run_epoch": 1,
    "group_id": 1,
    "attempt": 1,
    "sample": 0,
    "token_ids": b"\1\0\0\0",
    "behaviour_logprobs": b"\0\0\0\0",
    "policy_versions": [[0, 1]],
    "finish_reason": "stop",
    "completion": "x",
    "seconds": 1.0,
}


@pytest.mark.parametrize(
    "tokens",
    [None, [None], "abc", [2**63], [1e30], [float("nan")], {}, [{}], [[1]], [[1], [1, 2]], b"123"],
    ids=repr,
)
@pytest.mark.parametrize("field", ["token_ids", "behaviour_logprobs"])
def test_an_array_field_that_is_no_array_is_a_wire_error(field, tokens):
    error = decode_or_wire_error(frames_of(Rollout, {**ROLLOUT, field: tokens}))
    assert isinstance(error, WireError)
    assert error.reason == "invalid"


MANIFEST = {
    "run_epoch": 1,
    "policy_version": 0,
    "kind": "full",
    "digest": "d",
    "base_digest": "b",
    "chunk_bytes": 1,
    "total_bytes": 4,
}
HEARTBEAT = {"peer": "a", "state": "", "policy_version": 0, "capacity": 1}
LONG = (2**32 - 1).to_bytes(4, "big")


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\xdd" + LONG, id="an array said to be of 4 billion"),
        pytest.param(b"\xdf" + LONG, id="a map said to be of 4 billion"),
        pytest.param(b"\xdb" + LONG, id="a string said to be of 4 GB"),
        pytest.param(b"\xc6" + LONG, id="bytes said to be of 4 GB"),
        pytest.param(b"\xc9" + LONG + b"\1", id="an extension said to be of 4 GB"),
        pytest.param(b"\x91" * 1_000_000 + b"\xc0", id="a million nested arrays"),
        pytest.param(b"\x81\xa0" * 1_000_000 + b"\xc0", id="a million nested maps"),
        pytest.param(b"\xdd" + (3_000_000).to_bytes(4, "big") + b"\0" * 3_000_000, id="long array"),
        pytest.param(
            (b"\xdc\x03\xe8" * 2 + b"\x90" * 1000 + (b"\xdc\x03\xe8" + b"\x90" * 1000) * 999),
            id="a million empty arrays",
        ),
    ],
)
def test_a_bomb_is_refused_before_it_is_unpacked(body):
    began = time.perf_counter()
    error = decode_or_wire_error(frames_of(Heartbeat, body))
    assert isinstance(error, WireError)
    assert error.reason == "malformed"
    assert time.perf_counter() - began < 5.0  # 3 MB took half a minute before there were limits


@pytest.mark.parametrize(
    ("message_type", "fields"),
    [
        (Heartbeat, {**HEARTBEAT, "progress": [0] * MAX_ITEMS}),
        (Heartbeat, {**HEARTBEAT, "progress": [{}] * MAX_ITEMS}),
        (Heartbeat, {**HEARTBEAT, "metrics": {str(i): "x" for i in range(MAX_ITEMS)}}),
        (Rollout, {**ROLLOUT, "policy_versions": [0] * MAX_ITEMS}),
        (Rollout, {**ROLLOUT, "policy_versions": [[0, 0]] * MAX_ITEMS}),
        (Rollout, {**ROLLOUT, "policy_versions": [["9" * 5000, 1]]}),
        (m.LeaseGrant, {"run_epoch": 0, "leases": [{}] * 10_000}),
        (m.ScoreWork, {"run_epoch": 0, "tasks": [{}] * MAX_ITEMS}),
    ],
)
def test_a_message_with_a_hundred_thousand_mistakes_is_refused_at_the_first(message_type, fields):
    began = time.perf_counter()
    error = decode_or_wire_error(frames_of(message_type, fields))
    assert isinstance(error, WireError)
    assert error.reason == "invalid"
    assert time.perf_counter() - began < 5.0


def test_as_many_containers_as_the_limit_still_pass():
    tensor = {"name": "w", "dtype": "float32", "shape": [1], "num_bytes": 4}
    assert 2 * MAX_ITEMS + 2 <= MAX_CONTAINERS
    fields = {**MANIFEST, "tensors": [tensor] * MAX_ITEMS}
    manifest = decode(frames_of(Manifest, fields)).message
    assert isinstance(manifest, Manifest)
    assert len(manifest.tensors) == MAX_ITEMS


def test_of_a_key_said_twice_the_last_one_counts():
    body = b"\x82\xa6reason\xa1a\xa6reason\xa1b"
    assert decode(frames_of(Goodbye, body)).message == Goodbye(reason="b")


def test_the_text_of_a_wire_error_is_short_whatever_the_sender_wrote():
    error = decode_or_wire_error(frames_of(Heartbeat, {**HEARTBEAT, "metrics": {"k" * 10**6: "x"}}))
    assert isinstance(error, WireError)
    assert len(str(error)) <= MAX_ERROR_TEXT
