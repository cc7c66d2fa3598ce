"""Versions on request: what is kept, and chunks that make up a version's bytes."""

from hypothesis import given
from hypothesis import strategies as st

from learner.exchange.publish import CHUNK_BYTES, ChunkAnswer, Publisher
from protocol.messages import ChunkRequest, WeightsGone
from protocol.weights import PackedWeights, digest_of


def packed(data):
    view = memoryview(data).toreadonly()
    return PackedWeights((), view, digest_of(view))


def publisher(retained=2):
    return Publisher(run_epoch=3, kind="full", base_digest="base", retained=retained)


def request(manifest, index):
    return ChunkRequest(policy_version=manifest.policy_version, digest=manifest.digest, index=index)


def fetch(source, manifest):
    """Every chunk of a version, in order."""
    chunks = []
    while isinstance(answer := source.chunk(request(manifest, len(chunks))), ChunkAnswer):
        assert (answer.message.policy_version, answer.message.digest, answer.message.index) == (
            manifest.policy_version,
            manifest.digest,
            len(chunks),
        )
        chunks.append(bytes(answer.raw))
    return chunks


def test_a_manifest_says_what_its_version_is_made_of():
    source = publisher()
    assert source.newest() is None
    manifest = source.add(7, packed(b"abc"))
    assert source.newest() == manifest
    assert (manifest.run_epoch, manifest.policy_version, manifest.kind) == (3, 7, "full")
    assert (manifest.base_digest, manifest.digest) == ("base", digest_of(b"abc"))
    assert (manifest.total_bytes, manifest.chunk_bytes) == (3, CHUNK_BYTES)


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
    assert source.newest() == manifests[2]
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
