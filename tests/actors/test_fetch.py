import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.fetch import RETRY_SECONDS, WeightsFetch
from protocol.errors import WeightsError
from protocol.messages import (
    Chunk,
    ChunkRequest,
    Manifest,
    ManifestRequest,
    TensorSpec,
    WeightsGone,
)
from protocol.weights import digest_of

CHUNK_BYTES = 10
CREDIT = 8


def bytes_of(version, size=95):
    return bytes((version * 31 + i) % 256 for i in range(size))


def manifest_of(data, version=1, sizes=None, **fields):
    sizes = (len(data),) if sizes is None else sizes
    specs = tuple(
        TensorSpec(name=f"tensor_{i}", dtype="uint8", shape=(size,), num_bytes=size)
        for i, size in enumerate(sizes)
    )
    facts = {
        "run_epoch": 1,
        "policy_version": version,
        "kind": "full",
        "digest": digest_of(data),
        "base_digest": "",
        "tensors": specs,
        "chunk_bytes": CHUNK_BYTES,
        "total_bytes": len(data),
    }
    return Manifest.model_validate({**facts, **fields})


class Rig:
    """A fetch, a clock, and the learner's answers."""

    def __init__(self):
        self.now = 100.0
        self.sent = []
        self.fetch = WeightsFetch("actor-1", self.sent.append, lambda: self.now)

    def take_sent(self, kind):
        found = [message for message in self.sent if isinstance(message, kind)]
        self.sent[:] = [message for message in self.sent if not isinstance(message, kind)]
        return found

    def begin(self, data, version=1, **fields):
        self.fetch.want(version, held=-1)
        self.fetch.tick()
        assert [m.held_version for m in self.take_sent(ManifestRequest)] == [-1]
        self.fetch.on_manifest(manifest_of(data, version, **fields))

    def answer(self, data, index, version=1):
        chunk = Chunk(policy_version=version, digest=digest_of(data), index=index)
        self.fetch.on_chunk(chunk, data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES])

    def answer_all(self, data, version=1):
        while requests := self.take_sent(ChunkRequest):
            for request in requests:
                self.answer(data, request.index, version)

    def wait(self, seconds=RETRY_SECONDS):
        self.now += seconds
        self.fetch.tick()
        return self.take_sent(ManifestRequest)


def test_a_version_is_fetched_and_handed_out_once():
    rig, data = Rig(), bytes_of(1)
    rig.begin(data)
    assert rig.fetch.behind
    rig.answer_all(data)
    fetched = rig.fetch.take()
    assert fetched is not None
    assert fetched.data == data
    assert fetched.manifest.policy_version == 1
    assert rig.fetch.take() is None
    rig.fetch.want(1, held=1)
    assert not rig.fetch.behind
    assert rig.wait() == []


def test_requests_name_the_version_and_never_exceed_the_credit():
    rig, data = Rig(), bytes_of(1, 225)
    rig.begin(data)
    asked = [request.index for request in rig.take_sent(ChunkRequest)]
    assert asked == list(range(CREDIT))
    rig.answer(data, 3)
    [request] = rig.take_sent(ChunkRequest)
    assert request == ChunkRequest(policy_version=1, digest=digest_of(data), index=CREDIT)
    rig.answer(data, 3)  # a duplicate earns no credit
    assert rig.take_sent(ChunkRequest) == []


@given(st.data(), st.integers(1, 300))
@settings(max_examples=40, deadline=None)
def test_whatever_the_order_and_duplication_the_result_is_the_bytes(source, size):
    rig, data = Rig(), bytes_of(5, size)
    rig.begin(data)
    asked, answered, seen = set(), set(), []
    while rig.fetch.fetched is None:
        new = [request.index for request in rig.take_sent(ChunkRequest)]
        assert asked.isdisjoint(new), "a chunk was asked for twice"
        asked.update(new)
        assert len(asked - answered) <= CREDIT
        index = source.draw(st.sampled_from(sorted(asked - answered) + seen))
        rig.answer(data, index)
        answered.add(index)
        seen.append(index)
    assert rig.fetch.fetched.data == data
    assert asked == set(range(-(-size // CHUNK_BYTES)))
    assert rig.fetch.mismatches == 0


def test_chunks_of_other_versions_and_of_wrong_lengths_are_ignored():
    rig, data, other = Rig(), bytes_of(1, 25), bytes_of(2, 25)
    rig.begin(data)
    rig.take_sent(ChunkRequest)
    rig.answer(other, 0, version=2)
    for index, raw in ((0, data[:9]), (0, data[:11]), (2, data[20:24]), (3, b""), (0, b"")):
        rig.fetch.on_chunk(Chunk(policy_version=1, digest=digest_of(data), index=index), raw)
    assert rig.fetch.fetched is None
    for index in (2, 0, 1):
        rig.answer(data, index)
    assert rig.fetch.fetched is not None
    assert rig.fetch.fetched.data == data


def test_chunks_before_any_manifest_are_ignored():
    rig = Rig()
    rig.answer(bytes_of(1), 0)
    assert rig.fetch.fetched is None


def test_damaged_bytes_are_counted_and_fetched_again():
    rig, data = Rig(), bytes_of(1, 25)
    rig.begin(data)
    rig.take_sent(ChunkRequest)
    rig.answer(data, 0)
    rig.answer(data, 1)
    digest = digest_of(data)
    rig.fetch.on_chunk(Chunk(policy_version=1, digest=digest, index=2), b"wrong")
    assert (rig.fetch.mismatches, rig.fetch.fetched) == (1, None)
    assert rig.fetch.behind
    assert len(rig.wait()) == 1
    rig.fetch.on_manifest(manifest_of(data))
    rig.answer_all(data)
    assert rig.fetch.fetched is not None
    assert rig.fetch.mismatches == 1


def test_a_version_that_is_gone_is_asked_for_anew_at_once():
    rig, old, new = Rig(), bytes_of(1), bytes_of(2)
    rig.begin(old)
    rig.answer(old, 0)
    rig.take_sent(ChunkRequest)
    rig.fetch.on_gone(WeightsGone(policy_version=7))  # another one: of no interest
    assert rig.wait(0.0) == []
    rig.fetch.on_gone(WeightsGone(policy_version=1))
    assert len(rig.wait(0.0)) == 1
    rig.answer(old, 1)  # late: belongs to nothing any more
    rig.fetch.on_manifest(manifest_of(new, 2))
    rig.answer_all(new, 2)
    assert rig.fetch.fetched is not None
    assert rig.fetch.fetched.data == new


def test_a_lost_manifest_is_asked_for_again_after_a_while():
    rig = Rig()
    rig.fetch.want(1, held=-1)
    assert len(rig.wait(0.0)) == 1
    assert rig.wait(RETRY_SECONDS - 0.1) == []
    assert len(rig.wait(0.1)) == 1
    assert rig.wait(0.0) == []


def test_silence_in_the_middle_starts_the_version_anew():
    rig, data = Rig(), bytes_of(1)
    rig.begin(data)
    rig.take_sent(ChunkRequest)
    rig.answer(data, 0)
    assert rig.wait(RETRY_SECONDS - 0.1) == []
    rig.answer(data, 1)  # a word in time
    assert rig.wait(RETRY_SECONDS - 0.1) == []
    assert len(rig.wait(0.1)) == 1
    rig.take_sent(ChunkRequest)
    rig.fetch.on_manifest(manifest_of(data))
    rig.answer_all(data)
    assert rig.fetch.fetched is not None
    assert rig.fetch.fetched.data == data


def test_a_newer_version_that_appears_meanwhile_comes_after_the_one_under_way():
    rig, old, new = Rig(), bytes_of(1), bytes_of(2)
    rig.begin(old)
    rig.fetch.want(2, held=-1)
    assert rig.wait(0.0) == []
    rig.fetch.on_manifest(manifest_of(new, 2))  # two at once would mix
    rig.answer_all(old)
    assert rig.fetch.fetched is not None
    assert rig.fetch.fetched.data == old
    assert len(rig.wait(0.0)) == 1
    rig.fetch.on_manifest(manifest_of(new, 2))
    rig.answer_all(new, 2)
    fetched = rig.fetch.take()
    assert fetched is not None
    assert fetched.data == new


def test_a_late_manifest_does_not_replace_what_was_fetched_by_the_same_or_an_older_version():
    rig, old, new = Rig(), bytes_of(1), bytes_of(2)
    rig.begin(new, 2)
    rig.answer_all(new, 2)
    rig.fetch.on_manifest(manifest_of(new, 2))
    rig.fetch.on_manifest(manifest_of(old, 1))
    assert rig.take_sent(ChunkRequest) == []
    assert rig.fetch.fetched is not None
    assert rig.fetch.fetched.manifest.policy_version == 2


def test_manifests_of_held_versions_are_ignored():
    rig = Rig()
    rig.fetch.want(3, held=3)
    rig.fetch.on_manifest(manifest_of(bytes_of(3), 3))
    assert rig.sent == []


def test_a_reset_forgets_versions_of_the_old_epoch():
    rig, data = Rig(), bytes_of(9)
    rig.begin(data, 9)
    rig.answer_all(data, 9)
    rig.fetch.reset()
    assert rig.fetch.take() is None
    assert not rig.fetch.behind
    assert rig.wait() == []
    rig.begin(data, 2)  # lower, and of the new epoch
    rig.fetch.reset()
    rig.answer_all(data, 2)
    assert rig.fetch.fetched is None


@pytest.mark.parametrize(
    ("sizes", "total_bytes"), [((95,), 94), ((94,), 95), ((), 0), ((0, 0), 0), ((2**41,), 2**41)]
)
def test_a_manifest_that_does_not_add_up_is_refused(sizes, total_bytes):
    rig = Rig()
    with pytest.raises(WeightsError, match=str(total_bytes)):
        rig.begin(bytes_of(1), sizes=sizes, total_bytes=total_bytes)
    assert rig.take_sent(ChunkRequest) == []
    assert len(rig.wait()) == 1


def test_empty_tensors_take_no_bytes():
    rig, data = Rig(), bytes_of(1, 25)
    rig.begin(data, sizes=(0, 20, 0, 5, 0))
    rig.answer_all(data)
    assert rig.fetch.fetched is not None
    assert rig.fetch.fetched.data == data
