import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import assembly
from actors.assembly import CREDIT
from actors.fetch import PATIENCE_SECONDS, POLL_SECONDS, RETRY_SECONDS, WeightsFetch
from protocol.delta import encode_delta
from protocol.errors import WeightsError
from protocol.message_parts import TensorSpec
from protocol.messages import Chunk, ChunkRequest, Manifest, ManifestRequest, WeightsGone
from protocol.weights import digest_of

CHUNK_BYTES = 10
SIZE = 256


def bytes_of(version, size=SIZE):
    return bytes((version * 31 + i) % 256 for i in range(size))


def specs_of(*sizes):
    return tuple(
        TensorSpec(name=f"tensor_{i}", dtype="uint8", shape=(size,), num_bytes=size)
        for i, size in enumerate(sizes)
    )


def manifest_of(data, version=1, **fields):
    facts = {
        "run_epoch": 1,
        "policy_version": version,
        "kind": "full",
        "digest": digest_of(data),
        "weights_digest": digest_of(data),
        "base_digest": "",
        "tensors": specs_of(len(data)),
        "chunk_bytes": CHUNK_BYTES,
        "total_bytes": len(data),
    }
    return Manifest.model_validate({**facts, **fields})


class FakeSource:
    """Files of this host, as a test sets them."""

    def __init__(self):
        self.has_learners_files = False
        self.files = {}
        self.taken = set()
        """Digests that another actor has locked."""
        self.claimed = None
        self.stored = []
        self.closed = False

    def find(self, weights_digest, num_bytes):
        data = self.files.get(weights_digest)
        return memoryview(data) if data is not None and len(data) == num_bytes else None

    def claim(self, weights_digest):
        self.claimed = None if weights_digest in self.taken else weights_digest
        return self.claimed is not None

    def store(self, weights_digest, data):
        if self.claimed is not None:
            assert self.claimed == weights_digest
            self.stored.append(weights_digest)
        self.claimed = None

    def release(self):
        self.claimed = None

    def close(self):
        self.closed = True


class Learner:
    """What the other side keeps, and how it answers."""

    def __init__(self):
        self.payloads = {}
        self.newest = None
        self.links = {}
        self.data = b""

    def publish(self, version, data, *, delta=True):
        old = self.newest
        if not delta:
            self.links.clear()  # nobody comes further on that chain
        self.newest = manifest_of(data, version)
        self.payloads[version, self.newest.digest] = data
        if old is not None and delta:
            payload = encode_delta(self.newest.tensors, self.data, data)
            facts = {
                "kind": "delta",
                "digest": digest_of(payload),
                "weights_digest": self.newest.weights_digest,
                "from_digest": old.weights_digest,
                "total_bytes": len(payload),
            }
            self.links[old.weights_digest] = manifest_of(data, version, **facts)
            self.payloads[version, facts["digest"]] = payload
        self.data = data

    def forget(self, version):
        self.payloads = {key: data for key, data in self.payloads.items() if key[0] != version}

    def answer(self, request):
        """[(message, raw)]: none where there is nothing to say."""
        if isinstance(request, ManifestRequest):
            manifest = self.links.get(request.held_digest, self.newest)
            return [(manifest, b"")] if manifest else []
        payload = self.payloads.get((request.policy_version, request.digest))
        if payload is None:
            return [(WeightsGone(policy_version=request.policy_version), b"")]
        raw = payload[request.index * CHUNK_BYTES : (request.index + 1) * CHUNK_BYTES]
        return [(Chunk(**request.model_dump()), raw)]


class Rig:
    """A fetch, a clock, and the learner's answers."""

    def __init__(self, *, keep_base=True, run_epoch=1):
        self.now = 100.0
        self.sent = []
        self.source = FakeSource()
        self.learner = Learner()
        self.fetch = WeightsFetch(
            "actor-1",
            self.sent.append,
            lambda: self.now,
            self.source,  # pyright: ignore[reportArgumentType]
            keep_base=keep_base,
        )
        self.fetch.reset(run_epoch)

    def take_sent(self, kind):
        found = [message for message in self.sent if isinstance(message, kind)]
        self.sent[:] = [message for message in self.sent if not isinstance(message, kind)]
        return found

    def publish(self, version, data=None, *, delta=True):
        self.learner.publish(version, bytes_of(version) if data is None else data, delta=delta)
        self.fetch.want(1, version)

    def say(self, message, raw=b""):
        match message:
            case Manifest():
                self.fetch.on_manifest(message)
            case Chunk():
                self.fetch.on_chunk(message, raw)
            case WeightsGone():
                self.fetch.on_gone(message)

    def begin(self):
        """Up to the first requests for chunks."""
        self.fetch.tick()
        for request in self.take_sent(ManifestRequest):
            for message, raw in self.learner.answer(request):
                self.say(message, raw)

    def answer(self, *requests):
        for request in requests:
            for message, raw in self.learner.answer(request):
                self.say(message, raw)

    def work(self, damage=()):
        """Answer all requests until there are none; `damage`: payload digests that come wrong."""
        asked = []
        self.fetch.tick()
        while self.sent:
            request = self.sent.pop(0)
            asked.append(request)
            assert len(asked) < 2000, "it asks without end"
            for message, raw in self.learner.answer(request):
                if isinstance(message, Chunk) and message.digest in damage:
                    raw = bytes([raw[0] ^ 1]) + raw[1:]
                try_to_say(self, message, raw)
            self.fetch.tick()
            self.fetch.share()
        return asked

    def got(self):
        fetched = self.fetch.take()
        return fetched and (fetched.manifest.policy_version, bytes(fetched.data))

    def pass_time(self, seconds=RETRY_SECONDS):
        self.now += seconds
        self.fetch.tick()


def holding(version=1, **kwargs):
    rig = Rig(**kwargs)
    rig.publish(version)
    rig.work()
    assert rig.got() == (version, bytes_of(version))
    return rig


def held_digests(asked):
    return [request.held_digest for request in asked if isinstance(request, ManifestRequest)]


def kinds(asked):
    return [type(request).__name__ for request in asked]


def test_a_version_is_fetched_and_handed_out_once():
    rig = Rig()
    assert rig.fetch.wait_seconds() is None
    rig.publish(1)
    assert rig.fetch.wait_seconds() == 0.0
    asked = rig.work()
    assert kinds(asked) == ["ManifestRequest"] + ["ChunkRequest"] * 26
    assert asked[0] == ManifestRequest(peer="actor-1", held_version=-1, held_digest="")
    assert rig.got() == (1, bytes_of(1))
    assert rig.got() is None
    assert rig.fetch.fetched_bytes == SIZE
    assert rig.fetch.wait_seconds() is None
    rig.pass_time()
    assert rig.sent == []


def test_requests_name_the_payload_and_never_exceed_the_credit():
    rig = Rig()
    rig.publish(1)
    rig.begin()
    asked = rig.take_sent(ChunkRequest)
    assert [request.index for request in asked] == list(range(CREDIT))
    rig.answer(asked[3])
    [request] = rig.take_sent(ChunkRequest)
    assert request == ChunkRequest(policy_version=1, digest=digest_of(bytes_of(1)), index=CREDIT)
    rig.answer(asked[3])  # a duplicate earns no credit
    assert rig.take_sent(ChunkRequest) == []


def test_chunks_of_other_versions_and_of_wrong_lengths_are_ignored():
    rig, data, other = Rig(), bytes_of(1, 25), bytes_of(2, 25)
    rig.fetch.on_chunk(Chunk(policy_version=1, digest=digest_of(data), index=0), data[:10])
    rig.publish(1, data)
    rig.begin()
    asked = rig.take_sent(ChunkRequest)
    rig.fetch.on_chunk(Chunk(policy_version=1, digest=digest_of(other), index=0), other[:10])
    for index, raw in ((0, data[:9]), (0, data[:11]), (2, data[20:24]), (3, b""), (0, b"")):
        rig.fetch.on_chunk(Chunk(policy_version=1, digest=digest_of(data), index=index), raw)
    assert rig.got() is None
    rig.answer(*reversed(asked))
    assert rig.got() == (1, data)
    assert rig.fetch.fetched_bytes == 25


def test_chunks_that_are_lost_are_asked_for_again_and_only_these():
    rig = Rig()
    rig.publish(1)
    rig.begin()
    asked = rig.take_sent(ChunkRequest)
    rig.answer(*[request for request in asked if request.index not in (1, 3)])
    others = rig.take_sent(ChunkRequest)
    rig.answer(*others)
    rig.take_sent(ChunkRequest)  # the next two are lost as well
    rig.pass_time(RETRY_SECONDS - 0.1)
    assert rig.sent == []
    rig.pass_time(0.1)
    assert [request.index for request in rig.sent] == [1]  # one, to see whether anyone answers
    rig.answer(asked[3])  # that answer was only late
    assert [r.index for r in rig.sent] == [1, 6, 7, 8]
    rig.work()
    assert rig.got() == (1, bytes_of(1))
    assert rig.fetch.fetched_bytes == SIZE  # nothing came twice


def test_a_lost_manifest_is_asked_for_again_after_a_while():
    rig = Rig()
    rig.publish(1)
    rig.fetch.tick()
    assert len(rig.take_sent(ManifestRequest)) == 1
    assert rig.fetch.wait_seconds() == RETRY_SECONDS
    rig.pass_time(RETRY_SECONDS - 0.1)
    assert rig.sent == []
    rig.pass_time(0.2)
    assert len(rig.take_sent(ManifestRequest)) == 1
    rig.fetch.tick()
    assert rig.sent == []


def test_damaged_bytes_are_counted_and_fetched_again_after_a_while():
    rig = Rig()
    rig.publish(1)
    rig.work(damage=[digest_of(bytes_of(1))])
    assert (rig.fetch.mismatches, rig.got()) == (1, None)
    assert rig.sent == []  # a wire that always damages is not kept busy
    rig.pass_time()
    rig.work()
    assert rig.got() == (1, bytes_of(1))


def test_a_version_that_is_gone_is_asked_for_anew_at_once():
    rig = Rig()
    rig.publish(1)
    rig.begin()
    asked = rig.take_sent(ChunkRequest)
    rig.answer(*asked[:3])
    rig.take_sent(ChunkRequest)
    rig.fetch.on_gone(WeightsGone(policy_version=7))  # another one: of no interest
    rig.fetch.tick()
    assert rig.sent == []
    rig.learner.publish(2, bytes_of(2))
    rig.learner.forget(1)
    rig.answer(*asked[3:])  # each of them is gone
    assert kinds(rig.work()) == ["ManifestRequest"] + ["ChunkRequest"] * 26
    assert rig.got() == (2, bytes_of(2))


# --- newer versions meanwhile -----------------------------------------------------------------


def half_way(chunks):
    """A fetch of version 1 of which so many of 26 chunks are here, and version 2 is announced."""
    rig = Rig()
    rig.publish(1)
    rig.begin()
    for _ in range(chunks):
        rig.answer(rig.sent.pop(0))
    rig.publish(2)
    rig.fetch.tick()
    return rig


def test_what_is_less_than_half_here_is_dropped_for_a_newer_version():
    rig = half_way(12)
    assert len(rig.take_sent(ManifestRequest)) == 1
    assert rig.source.claimed is None  # another actor may go on with it
    rig.take_sent(ChunkRequest)
    rig.say(rig.learner.newest)
    rig.work()
    assert rig.got() == (2, bytes_of(2))


def test_what_is_more_than_half_here_is_finished_first():
    rig = half_way(14)
    assert rig.take_sent(ManifestRequest) == []
    while rig.sent and not rig.fetch.fetched:
        rig.answer(rig.sent.pop(0))
    assert rig.got() == (1, bytes_of(1))
    rig.work()
    assert rig.got() == (2, bytes_of(2))


def test_versions_that_come_faster_than_the_wire_do_not_starve_the_actor():
    rig, taken = Rig(), []
    for version in range(1, 40):
        rig.publish(version)
        for _ in range(10):  # 26 chunks make a version
            rig.fetch.tick()
            if rig.sent:
                rig.answer(rig.sent.pop(0))
        if got := rig.got():
            taken.append(got)
    assert len(taken) >= 6
    assert all(data == bytes_of(version) for version, data in taken)


def test_a_late_manifest_does_not_begin_a_version_that_is_held_or_older():
    rig = Rig()
    rig.publish(1)
    first = rig.learner.newest
    rig.publish(2)
    rig.work()
    assert rig.got() == (2, bytes_of(2))
    rig.say(rig.learner.newest)
    rig.say(first)
    assert (rig.sent, rig.fetch.fetched) == ([], None)


def test_a_manifest_during_a_fetch_changes_nothing():
    rig = half_way(14)
    before = list(rig.sent)
    rig.say(rig.learner.newest)  # two at once would mix
    assert rig.sent == before


def test_a_version_that_nobody_announced_is_fetched_as_well_and_to_its_end():
    rig = Rig()
    rig.learner.publish(3, bytes_of(3))
    rig.say(rig.learner.newest)
    rig.take_sent(ChunkRequest)  # lost
    rig.pass_time()
    rig.work()
    assert rig.got() == (3, bytes_of(3))


def test_a_reset_forgets_versions_of_the_old_epoch():
    rig = holding(9)
    rig.publish(10)
    rig.begin()
    rig.fetch.reset(2)
    assert rig.fetch.wait_seconds() is None
    rig.work()
    assert rig.got() is None
    rig.say(rig.learner.newest)  # of epoch 1
    rig.fetch.want(1, 11)
    assert (rig.sent, rig.fetch.wait_seconds()) == ([], None)
    data = bytes_of(7)
    rig.learner.newest = manifest_of(data, 2, run_epoch=2)
    rig.learner.payloads[2, digest_of(data)] = data
    rig.fetch.want(2, 2)  # lower, and of the new epoch
    assert held_digests(rig.work()) == [""]
    assert rig.got() == (2, data)


def test_what_was_fetched_before_a_reset_is_not_handed_out():
    rig = Rig()
    rig.publish(1)
    rig.work()
    rig.fetch.reset(2)
    assert rig.got() is None


# --- manifests that cannot be followed --------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "total_bytes"), [((95,), 94), ((94,), 95), ((), 0), ((0, 0), 0), ((2**41,), 2**41)]
)
def test_a_manifest_that_does_not_add_up_is_refused(sizes, total_bytes):
    rig = Rig()
    rig.fetch.want(1, 1)
    rig.fetch.tick()
    rig.take_sent(ManifestRequest)
    manifest = manifest_of(bytes_of(1), tensors=specs_of(*sizes), total_bytes=total_bytes)
    with pytest.raises(WeightsError, match=str(total_bytes)):
        rig.say(manifest)
    assert rig.sent == []
    rig.pass_time()
    assert kinds(rig.sent) == ["ManifestRequest"]


def test_a_whole_version_of_another_name_than_its_payload_is_refused():
    rig = Rig()
    with pytest.raises(WeightsError, match="two digests differ"):
        rig.say(manifest_of(bytes_of(1), weights_digest=digest_of(b"")))


def shaped(*shape, num_bytes=0):
    return TensorSpec(name="odd", dtype="float32", shape=shape, num_bytes=num_bytes)


@pytest.mark.parametrize(
    "odd",
    [
        shaped(2**32, 2**32),  # 0 in 64 bits
        shaped(2**32, 0),
        shaped(2**30, 2**30, 0),
        shaped(2, 2, num_bytes=12),
    ],
)
def test_a_shape_that_no_array_can_have_is_refused(odd):
    rig, data = Rig(), bytes_of(1)
    rig.fetch.want(1, 1)
    rig.fetch.tick()
    rig.take_sent(ManifestRequest)
    size = SIZE - odd.num_bytes
    with pytest.raises(WeightsError, match=r"odd: \d+ bytes for shape"):
        rig.say(manifest_of(data, tensors=(*specs_of(size), odd)))
    rig.pass_time()
    assert kinds(rig.sent) == ["ManifestRequest"]


@pytest.mark.parametrize("facts", [{"chunk_bytes": 1}, {"chunk_bytes": 2**40}])
def test_a_payload_that_memory_cannot_hold_is_refused_and_asked_for_later(facts, monkeypatch):
    def no_room(*_):
        raise MemoryError

    rig, size = Rig(), 2**25
    rig.fetch.want(1, 1)
    rig.fetch.tick()
    rig.take_sent(ManifestRequest)
    with monkeypatch.context() as patched:
        patched.setattr(assembly, "FreshMemory", no_room)
        with pytest.raises(WeightsError, match="a payload of"):
            rig.say(manifest_of(b"", tensors=specs_of(size), total_bytes=size, **facts))
    assert (rig.source.claimed, rig.sent) == (None, [])
    rig.pass_time()
    assert kinds(rig.sent) == ["ManifestRequest"]
    rig.publish(1)
    rig.work()
    rig.pass_time()
    rig.work()
    assert rig.got() == (1, bytes_of(1))


def test_what_memory_cannot_hold_after_another_actor_gave_it_up_is_asked_for_later(monkeypatch):
    def no_room(*_):
        raise MemoryError

    rig = Rig()
    rig.source.taken.add(digest_of(bytes_of(1)))
    rig.publish(1)
    rig.begin()
    rig.source.taken.clear()
    with monkeypatch.context() as patched:
        patched.setattr(assembly, "FreshMemory", no_room)
        rig.pass_time(POLL_SECONDS)
    assert (rig.source.claimed, rig.sent) == (None, [])
    rig.pass_time()
    rig.work()
    assert rig.got() == (1, bytes_of(1))


def test_the_version_held_under_other_tensors_is_refused():
    rig = holding(1)
    rig.fetch.want(1, 2)
    size = SIZE + 4
    held = digest_of(bytes_of(1))
    odd = manifest_of(b"", 2, tensors=specs_of(size), total_bytes=size, digest=held)
    with pytest.raises(WeightsError, match="260 bytes of tensors for the version held, of 256"):
        rig.say(odd.model_copy(update={"weights_digest": held}))
    assert rig.got() is None


def test_a_learner_that_always_says_gone_is_asked_again_after_a_while():
    rig = Rig()
    rig.publish(1)
    rig.learner.forget(1)
    asked = rig.work()
    assert kinds(asked).count("ManifestRequest") == 2
    assert rig.fetch.wait_seconds() == RETRY_SECONDS
    rig.pass_time()
    assert kinds(rig.work()).count("ManifestRequest") == 1
    rig.publish(2)
    rig.pass_time()
    rig.work()
    assert rig.got() == (2, bytes_of(2))
    rig.publish(3)
    rig.learner.forget(3)
    assert kinds(rig.work()).count("ManifestRequest") == 2  # the first time again


def test_empty_tensors_take_no_bytes():
    rig, data = Rig(), bytes_of(1, 25)
    rig.publish(1, data)
    rig.learner.newest = manifest_of(data, tensors=specs_of(0, 20, 0, 5, 0))
    rig.work()
    assert rig.got() == (1, data)


# --- deltas -----------------------------------------------------------------------------------


def changed(data, *places):
    """The same bytes, but for these."""
    copy = bytearray(data)
    for place in places:
        copy[place] ^= 1
    return bytes(copy)


def test_a_newer_version_comes_as_a_delta_of_the_one_held():
    rig = holding(1)
    before, data = rig.fetch.fetched_bytes, changed(bytes_of(1), 3, 200)
    rig.publish(2, data)
    asked = rig.work()
    assert held_digests(asked) == [digest_of(bytes_of(1))]
    assert rig.got() == (2, data)
    assert 0 < rig.fetch.fetched_bytes - before < SIZE / 2
    assert rig.fetch.mismatches == 0


def test_fifty_deltas_in_a_chain_give_the_same_bits():
    rig, data = holding(1), bytes_of(1)
    for version in range(2, 52):
        data = changed(data, version, 5 * version)
        rig.publish(version, data)
        rig.work()
        assert rig.got() == (version, data)
    assert rig.fetch.mismatches == 0


def test_an_actor_that_is_behind_follows_the_chain_and_hands_out_its_end_alone():
    rig, data = holding(1), bytes_of(1)
    for version in range(2, 7):
        data = changed(data, version)
        rig.learner.publish(version, data)
    rig.fetch.want(1, 6)
    asked = rig.work()
    assert kinds(asked).count("ManifestRequest") == 5
    assert rig.got() == (6, data)
    assert rig.got() is None
    assert rig.source.stored == [digest_of(bytes_of(1)), digest_of(data)]


def test_what_appears_during_a_delta_is_the_end_of_the_next_chain():
    rig, data, taken = holding(1), changed(bytes_of(1), 2), []
    rig.publish(2, data)
    rig.begin()
    for version in range(3, 7):
        data = changed(data, version)
        rig.publish(version, data)
    while rig.sent:
        rig.answer(rig.sent.pop(0))
        if got := rig.got():
            taken.append(got)
        rig.fetch.tick()
    assert taken == [(2, changed(bytes_of(1), 2)), (6, data)]


def test_a_chain_that_always_grows_at_its_end_is_handed_out_now_and_then():
    rig, data, taken = holding(1), bytes_of(1), []
    for version in range(2, 60):
        for half in (0, 1):  # the learner publishes two while the actor fetches one
            data = changed(data, (2 * version + half) % SIZE)
            rig.learner.publish(2 * version + half, data)
        rig.fetch.want(1, 2 * version + 1)
        rig.fetch.tick()
        for request in [rig.sent.pop(0)] if rig.sent else []:
            rig.answer(request)
        while rig.sent and isinstance(rig.sent[0], ChunkRequest):
            rig.answer(rig.sent.pop(0))
        if got := rig.got():
            taken.append(got[0])
    assert len(taken) >= 3


def test_a_delta_whose_payload_is_damaged_is_counted_and_the_version_comes_whole_at_once():
    rig, data = holding(1), changed(bytes_of(1), 3)
    rig.publish(2, data)
    link = rig.learner.links[digest_of(bytes_of(1))]
    asked = rig.work(damage=[link.digest])
    assert held_digests(asked) == [digest_of(bytes_of(1)), ""]
    assert rig.got() == (2, data)
    assert rig.fetch.mismatches == 1
    rig.publish(3, changed(data, 4))
    assert held_digests(rig.work()) == [digest_of(data)]  # and deltas go on from there
    assert rig.got() == (3, changed(data, 4))


@pytest.mark.parametrize("payload", [b"no zstd frame", None])
def test_a_delta_that_leads_elsewhere_is_counted_and_the_version_comes_whole(payload):
    rig, data = holding(1), changed(bytes_of(1), 3)
    rig.publish(2, data)
    held = digest_of(bytes_of(1))
    if payload is None:  # a good delta, but of other bytes
        payload = encode_delta(specs_of(SIZE), bytes_of(5), data)
    facts = {"digest": digest_of(payload), "total_bytes": len(payload)}
    rig.learner.links[held] = rig.learner.links[held].model_copy(update=facts)
    rig.learner.payloads[2, facts["digest"]] = payload
    rig.work()
    assert rig.got() == (2, data)
    assert rig.fetch.mismatches == 1


def test_a_delta_of_bytes_that_are_not_held_is_refused_and_the_version_is_asked_for_whole():
    rig, other = holding(1), changed(bytes_of(1), 9)
    rig.publish(2, changed(other, 3))
    payload = encode_delta(specs_of(SIZE), other, rig.learner.data)
    odd = manifest_of(
        rig.learner.data,
        2,
        kind="delta",
        digest=digest_of(payload),
        from_digest=digest_of(other),
        total_bytes=len(payload),
    )
    rig.fetch.tick()
    rig.take_sent(ManifestRequest)
    with pytest.raises(WeightsError, match="not held"):
        rig.say(odd)
    rig.pass_time()
    assert held_digests(rig.work()) == [""]
    assert rig.got() == (2, rig.learner.data)


def test_a_lost_link_of_the_chain_heals():
    rig, data = holding(1), changed(bytes_of(1), 3)
    rig.publish(2, data)
    rig.begin()
    rig.take_sent(ChunkRequest)
    rig.learner.publish(3, changed(data, 5))
    rig.learner.forget(2)
    rig.learner.links.clear()
    rig.say(WeightsGone(policy_version=2))
    rig.work()
    assert rig.got() == (3, changed(data, 5))


def test_the_same_bytes_under_a_new_version_are_not_fetched():
    rig = holding(1)
    before = rig.fetch.fetched_bytes
    for version, delta in ((2, True), (3, False)):
        rig.publish(version, bytes_of(1), delta=delta)
        assert kinds(rig.work()) == ["ManifestRequest"]
        assert rig.got() == (version, bytes_of(1))
    assert rig.fetch.fetched_bytes == before


def test_without_a_base_no_delta_is_asked_for():
    rig = holding(1, keep_base=False)
    rig.publish(2)
    assert held_digests(rig.work()) == [""]
    assert rig.got() == (2, bytes_of(2))


# --- files ------------------------------------------------------------------------------------


def test_a_version_that_lies_as_a_file_is_not_fetched():
    rig = Rig()
    rig.source.files[digest_of(bytes_of(1))] = bytes_of(1)
    rig.publish(1)
    assert kinds(rig.work()) == ["ManifestRequest"]
    assert rig.got() == (1, bytes_of(1))
    assert (rig.source.claimed, rig.source.stored) == (None, [])


def test_where_the_learners_files_are_at_hand_the_newest_is_asked_for_and_no_chain():
    rig, data = Rig(), bytes_of(1)
    rig.source.has_learners_files = True
    for version in (1, 2):
        data = changed(data, version)
        rig.source.files[digest_of(data)] = data
        rig.publish(version, data)
        assert held_digests(rig.work()) == [""]
        assert rig.got() == (version, data)
    data = changed(data, 3)
    rig.publish(3, data)  # no file: its disk is full
    assert held_digests(rig.work()) == [""]
    assert rig.got() == (3, data)
    data = changed(data, 4)
    rig.publish(4, data)
    assert held_digests(rig.work()) == [digest_of(changed(data, 4))]
    assert rig.got() == (4, data)


def test_what_another_actor_of_the_host_fetches_is_waited_for():
    rig, digest = Rig(), digest_of(bytes_of(1))
    rig.source.taken.add(digest)
    rig.publish(1)
    assert kinds(rig.work()) == ["ManifestRequest"]
    assert rig.fetch.wait_seconds() == POLL_SECONDS
    rig.pass_time(5 * RETRY_SECONDS)
    assert rig.sent == []
    rig.source.files[digest] = bytes_of(1)
    rig.pass_time(POLL_SECONDS)
    assert rig.got() == (1, bytes_of(1))


def test_an_actor_that_died_over_a_fetch_is_replaced():
    rig, digest = Rig(), digest_of(bytes_of(1))
    rig.source.taken.add(digest)
    rig.publish(1)
    rig.work()
    rig.source.taken.clear()
    rig.pass_time(POLL_SECONDS)
    assert rig.source.claimed == digest
    rig.work()
    assert rig.got() == (1, bytes_of(1))
    assert (rig.source.stored, rig.source.claimed) == ([digest], None)


def test_what_is_fetched_is_handed_out_before_it_is_written_for_the_others():
    rig = Rig()
    rig.publish(1)
    rig.begin()
    while rig.sent:
        rig.answer(rig.sent.pop(0))
    assert rig.got() == (1, bytes_of(1))
    assert rig.source.stored == []
    rig.fetch.share()
    rig.fetch.share()
    assert rig.source.stored == [digest_of(bytes_of(1))]


def test_an_actor_that_is_stopped_over_a_fetch_is_not_waited_for_without_end():
    rig = Rig()
    rig.source.taken.add(digest_of(bytes_of(1)))
    rig.publish(1)
    rig.work()
    rig.pass_time(PATIENCE_SECONDS)
    rig.work()
    assert rig.got() == (1, bytes_of(1))


def test_a_version_that_another_actor_fetches_is_left_for_a_newer_one():
    rig = Rig()
    rig.source.taken.add(digest_of(bytes_of(1)))
    rig.publish(1)
    rig.work()
    rig.publish(2)
    rig.work()
    assert rig.got() == (2, bytes_of(2))


@pytest.mark.parametrize("end", ["mismatch", "gone", "reset"])
def test_a_claim_ends_with_the_fetch(end):
    rig = Rig()
    rig.publish(1)
    rig.begin()
    assert rig.source.claimed is not None
    if end == "mismatch":
        rig.work(damage=[digest_of(bytes_of(1))])
    elif end == "gone":
        rig.say(WeightsGone(policy_version=1))
    else:
        rig.fetch.reset(2)
    assert rig.source.claimed is None


def test_the_end_of_a_fetch_ends_what_is_shared():
    rig = holding(1)
    rig.fetch.close()
    assert rig.source.closed


# --- whatever the wire does -------------------------------------------------------------------

STEPS = st.sampled_from(
    ["deliver", "deliver", "deliver", "later", "twice", "lose", "damage", "garbage", "stale"]
)


@given(st.data(), st.integers(1, 12), st.integers(20, 200))
@settings(max_examples=150, deadline=None)
def test_whatever_the_wire_does_the_newest_version_comes_and_its_bytes_are_right(
    source, versions, size
):
    rig, history, seen = Rig(), {}, []
    data = bytes_of(0, size)
    for version in range(1, versions + 1):
        data = changed(data, version % size, 7 * version % size)
        history[version] = data
        rig.publish(version, data, delta=source.draw(st.booleans()))
        for step in source.draw(st.lists(STEPS, max_size=30)):
            chaos(rig, step, seen)
            check(rig, history)
        if source.draw(st.booleans()):
            rig.pass_time()
        if version > 2:
            rig.learner.forget(version - 2)
    for _ in range(40):  # and then it is a good wire
        rig.work()
        check(rig, history)
        rig.pass_time()
    assert rig.fetch.wait_seconds() is None
    rig.publish(versions + 1, changed(data, 0))
    [request] = rig.work()[:1]
    assert request.held_version == versions


def chaos(rig, step, seen):
    """Let one thing happen to the oldest request or its answer."""
    rig.fetch.tick()
    if step == "garbage":
        digest = seen[-1][0].digest if seen else "none"
        for index in (0, 3, 10**9):
            rig.say(Chunk(policy_version=1, digest=digest, index=index), b"odd")
        return
    if step == "stale" and seen:
        try_to_say(rig, *seen[len(seen) // 2])
        return
    if not rig.sent:
        return
    if step == "later":
        rig.sent.append(rig.sent.pop(0))
        return
    request = rig.sent.pop(0)
    if step == "lose":
        return
    for message, raw in rig.learner.answer(request):
        if isinstance(message, Chunk | Manifest):
            seen.append((message, raw))
        if step == "damage" and raw:
            raw = bytes([raw[0] ^ 255]) + raw[1:]
        for _ in range(2 if step == "twice" else 1):
            try_to_say(rig, message, raw)


def try_to_say(rig, message, raw):
    try:
        rig.say(message, raw)
    except WeightsError:
        assert isinstance(message, Manifest)


def check(rig, history):
    if got := rig.got():
        version, data = got
        assert data == history[version]
    return got
