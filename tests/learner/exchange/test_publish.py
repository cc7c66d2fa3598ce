"""Versions on request: what is kept whole, the chain of deltas, and chunks of either."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.exchange.publish import CHUNK_BYTES, ChunkAnswer, Delta, Publisher
from protocol.delta import apply_delta, encode_delta
from protocol.message_parts import TensorSpec
from protocol.messages import ChunkRequest, Notice, WeightsGone
from protocol.weights import PackedWeights, digest_of

FULL_BYTES = 100


def packed(data, tensors=()):
    view = memoryview(data).toreadonly()
    return PackedWeights(tensors, view, digest_of(view))


def publisher(retained=2):
    return Publisher(run_epoch=3, kind="full", base_digest="base", retained=retained)


def request(manifest, index):
    return ChunkRequest(policy_version=manifest.policy_version, digest=manifest.digest, index=index)


def fetch(source, manifest):
    """Every chunk of a payload, in order."""
    chunks = []
    while isinstance(answer := source.chunk(request(manifest, len(chunks))), ChunkAnswer):
        assert (answer.message.policy_version, answer.message.digest, answer.message.index) == (
            manifest.policy_version,
            manifest.digest,
            len(chunks),
        )
        chunks.append(bytes(answer.raw))
    return chunks


class History:
    """A publisher, and versions of it with deltas of a given length."""

    def __init__(self, retained=2):
        self.source = publisher(retained)
        self.versions: list[PackedWeights] = []

    def add(self, delta_bytes=None, name=None, before=None) -> Any:
        """Adds a version of FULL_BYTES bytes; with a delta, if it has a length."""
        number = len(self.versions)
        text = f"version {number}" if name is None else name
        new = packed(text.encode().ljust(FULL_BYTES, b"."))
        delta = None
        if delta_bytes is not None:
            payload = memoryview(f"{number:02}".encode().ljust(delta_bytes, b"+"))
            from_digest = (before or self.versions[-1]).digest
            delta = Delta(from_digest, payload, digest_of(payload))
        self.versions.append(new)
        return self.source.add(number, new, delta)

    def walk(self, held: int):
        """(version, kind) of every manifest that an actor with some version gets, to the newest."""
        digest, steps = self.versions[held].digest, []
        while digest != self.versions[-1].digest:
            manifest = self.source.manifest(digest)
            assert manifest is not None
            assert manifest.kind == "full" or manifest.from_digest == digest
            steps.append((manifest.policy_version, manifest.kind))
            digest = manifest.weights_digest
        return steps


def test_a_manifest_says_what_its_version_is_made_of():
    source = publisher()
    assert source.manifest() is None
    assert source.policy_version == 0
    manifest = source.add(7, packed(b"abc"))
    assert source.manifest() == manifest
    assert source.policy_version == 7
    assert (manifest.run_epoch, manifest.policy_version, manifest.kind) == (3, 7, "full")
    assert (manifest.base_digest, manifest.digest) == ("base", digest_of(b"abc"))
    assert (manifest.weights_digest, manifest.from_digest) == (manifest.digest, "")
    assert (manifest.total_bytes, manifest.chunk_bytes) == (3, CHUNK_BYTES)
    notice = Notice(run_id="run-1", run_epoch=3, policy_version=7, digest=digest_of(b"abc"))
    assert source.notice("run-1") == notice


@given(st.sampled_from([1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES + 5]))
def test_chunks_put_together_are_the_versions_bytes(num_bytes):
    data = bytes(i % 251 for i in range(1000)) * (num_bytes // 1000 + 1)
    data = data[:num_bytes]
    source = publisher()
    chunks = fetch(source, source.add(0, packed(data)))
    assert b"".join(chunks) == data
    assert [len(chunk) for chunk in chunks[:-1]] == [CHUNK_BYTES] * (len(chunks) - 1)
    assert 0 < len(chunks[-1]) <= CHUNK_BYTES


def test_only_the_newest_versions_are_kept():
    source = publisher(retained=2)
    manifests = [source.add(version, packed(bytes([version]))) for version in (4, 5, 6)]
    assert source.manifest() == manifests[2]
    assert fetch(source, manifests[0]) == []
    assert fetch(source, manifests[1]) == [b"\x05"]
    assert fetch(source, manifests[2]) == [b"\x06"]


def test_an_unknown_version_digest_or_chunk_is_gone():
    source = publisher()
    manifest = source.add(4, packed(b"abc"))
    digest = manifest.digest
    for version, other_digest, index in (
        (5, digest, 0),
        (4, "0" * 32, 0),
        (4, digest, 1),
        (4, digest, 2**53),
    ):
        asked = ChunkRequest(policy_version=version, digest=other_digest, index=index)
        assert source.chunk(asked) == WeightsGone(policy_version=version)


def test_a_delta_and_the_whole_of_one_version_are_both_served():
    history = History()
    history.add()
    whole = history.add(delta_bytes=10)
    link = history.source.manifest(history.versions[0].digest)
    assert link is not None
    assert (link.policy_version, link.kind, link.total_bytes) == (1, "delta", 10)
    assert (link.weights_digest, link.from_digest) == (
        history.versions[1].digest,
        history.versions[0].digest,
    )
    assert (link.tensors, link.base_digest, link.run_epoch) == (whole.tensors, "base", 3)
    assert fetch(history.source, link) == [b"01" + b"+" * 8]
    assert fetch(history.source, whole) == [bytes(history.versions[1].data)]
    assert link.digest == digest_of(fetch(history.source, link)[0])


def test_who_holds_nothing_or_something_unknown_gets_the_whole():
    history = History()
    history.add()
    history.add(delta_bytes=1)
    for held in ("", digest_of(b"damaged"), history.versions[1].digest):
        manifest = history.source.manifest(held)
        assert manifest is not None
        assert (manifest.policy_version, manifest.kind) == (1, "full")


def test_an_actor_that_is_some_versions_behind_goes_along_the_chain():
    history = History()
    history.add()
    for _ in range(4):
        history.add(delta_bytes=20)  # 4 * 20 < 100
    assert history.walk(0) == [(1, "delta"), (2, "delta"), (3, "delta"), (4, "delta")]
    assert history.walk(2) == [(3, "delta"), (4, "delta")]
    history.add(delta_bytes=20)  # 5 * 20 is no less than the whole
    assert history.walk(0) == [(5, "full")]
    assert history.walk(1) == [(version, "delta") for version in (2, 3, 4, 5)]


def test_the_chain_never_holds_as_many_bytes_as_the_whole():
    history, lengths = History(), random.Random(4)
    history.add()
    for _ in range(200):
        history.add(delta_bytes=lengths.randrange(2, FULL_BYTES))
        links = [walk for held in range(len(history.versions)) if (walk := history.walk(held))]
        longest = max((w for w in links if w[0][1] == "delta"), key=len, default=[])
        offers = [history.source.manifest(v.digest) for v in history.versions[-len(longest) - 1 :]]
        assert sum(m.total_bytes for m in offers if m and m.kind == "delta") < FULL_BYTES


def test_a_delta_that_is_no_smaller_than_the_whole_is_not_offered():
    history = History()
    history.add()
    history.add(delta_bytes=FULL_BYTES)
    assert history.walk(0) == [(1, "full")]


def test_a_version_without_a_delta_ends_the_chain():
    history = History()
    history.add()
    history.add(delta_bytes=5)
    history.add()
    assert history.walk(0) == history.walk(1) == [(2, "full")]
    history.add(delta_bytes=5)
    assert history.walk(2) == [(3, "delta")]
    assert history.walk(1) == [(3, "full")]


def test_a_delta_from_another_version_than_the_last_is_not_offered():
    history = History()
    history.add()
    history.add(delta_bytes=5)
    history.add(delta_bytes=5, before=history.versions[0])
    assert history.walk(0) == history.walk(1) == [(2, "full")]


def test_a_version_with_the_bytes_of_an_earlier_one_leads_to_the_newest_all_the_same():
    history = History()
    history.add(name="a")
    history.add(name="b", delta_bytes=5)
    history.add(name="a", delta_bytes=5)
    history.add(name="c", delta_bytes=5)
    assert history.walk(0) == [(3, "delta")]  # its bytes are those of version 2 too
    assert history.walk(1) == [(2, "delta"), (3, "delta")]


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_fifty_versions_in_a_chain_are_bit_equal_at_its_end(dtype):
    tensors = (
        TensorSpec(
            name="x", dtype=dtype, shape=(1000,), num_bytes=1000 * (2, 4)[dtype == "float32"]
        ),
    )
    chosen, data = random.Random(1), bytearray(tensors[0].num_bytes)
    source, held = publisher(retained=1), None
    for version in range(50):
        for _ in range(3):
            data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
        new, delta = packed(bytes(data), tensors), None
        if held is not None:
            payload = memoryview(encode_delta(tensors, held, new.data))
            delta = Delta(digest_of(held), payload, digest_of(payload))
        source.add(version, new, delta)
        manifest = source.manifest("" if held is None else digest_of(held))
        assert manifest is not None
        assert manifest.kind == ("delta" if version else "full")
        payload = b"".join(fetch(source, manifest))
        held = bytes(apply_delta(tensors, held, payload)) if held is not None else payload
        assert held == bytes(data)
