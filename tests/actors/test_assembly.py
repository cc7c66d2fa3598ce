import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.assembly import CREDIT, Assembly
from protocol.errors import WeightsError
from protocol.messages import Chunk, Manifest
from protocol.weights import digest_of

CHUNK_BYTES = 10


def assembly_of(data):
    digest = digest_of(data)
    return Assembly(
        Manifest(
            run_epoch=1,
            policy_version=1,
            kind="full",
            digest=digest,
            weights_digest=digest,
            base_digest="",
            tensors=(),
            chunk_bytes=CHUNK_BYTES,
            total_bytes=len(data),
        )
    )


def take(assembly, data, index):
    chunk = Chunk(policy_version=1, digest=digest_of(data), index=index)
    return assembly.take(chunk, data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES])


@given(st.data(), st.integers(1, 300))
def test_whatever_the_order_and_duplication_the_result_is_the_payload(source, size):
    data = bytes(i * 7 % 256 for i in range(size))
    assembly, asked, here = assembly_of(data), set(), set()
    while not assembly.complete:
        new = {request.index for request in assembly.requests()}
        assert asked.isdisjoint(new), "a chunk was asked for twice"
        asked |= new
        assert len(asked - here) <= CREDIT
        index = source.draw(st.sampled_from(sorted(asked)))
        assert take(assembly, data, index) == (index not in here)
        here.add(index)
    assert assembly.data == data
    assert assembly.digest == digest_of(data)
    assert asked == set(range(-(-size // CHUNK_BYTES)))
    assert assembly.requests() == []


def test_what_did_not_come_is_asked_for_again_before_what_is_next():
    data = bytes(200)
    assembly = assembly_of(data)
    assembly.requests()
    for index in (0, 2):
        take(assembly, data, index)
    assembly.ask_again()
    assert [r.index for r in assembly.requests(credit=1)] == [1]
    assert [r.index for r in assembly.requests()] == [3, 4, 5][: CREDIT - 1]


def test_what_comes_late_is_not_asked_for_again():
    data = bytes(100)
    assembly = assembly_of(data)
    assembly.requests()
    assembly.ask_again()
    assert take(assembly, data, 0)
    assert [r.index for r in assembly.requests(credit=1)] == [1]


@pytest.mark.parametrize(
    ("index", "raw"), [(0, b"x" * 9), (0, b"x" * 11), (2, b"x" * 10), (3, b""), (10**12, b"x")]
)
def test_chunks_that_do_not_fit_are_not_taken(index, raw):
    data = bytes(25)
    assembly = assembly_of(data)
    assert not assembly.take(Chunk(policy_version=1, digest=digest_of(data), index=index), raw)
    assert not assembly.take(Chunk(policy_version=1, digest="other", index=0), bytes(10))


def test_damaged_bytes_have_another_digest():
    data = bytes(25)
    assembly = assembly_of(data)
    take(assembly, data, 2)
    chunk = Chunk(policy_version=1, digest=digest_of(data), index=1)
    assert assembly.take(chunk, bytes(9) + b"\1")
    take(assembly, data, 0)
    assert assembly.digest == digest_of(assembly.data) != digest_of(data)


@pytest.mark.parametrize(
    ("total_bytes", "chunk_bytes"), [(2**25, 1), (2**62, 2**62), (2**63, 2**63)]
)
def test_payloads_that_no_memory_can_hold_are_refused(total_bytes, chunk_bytes):
    manifest = assembly_of(b"x").manifest
    update = {"total_bytes": total_bytes, "chunk_bytes": chunk_bytes}
    with pytest.raises(WeightsError, match="payload of"):
        Assembly(manifest.model_copy(update=update))


def test_more_than_half_is_told():
    data = bytes(100)
    assembly = assembly_of(data)
    for index in range(5):
        assert not assembly.more_than_half
        take(assembly, data, index)
    assert not assembly.more_than_half
    take(assembly, data, 5)
    assert assembly.more_than_half
