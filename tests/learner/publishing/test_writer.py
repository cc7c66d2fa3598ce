"""The threads that make versions, with an exchange that notes them and encoders that wait."""

import threading
from concurrent.futures import Future
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from learner.exchange.publish import Publisher
from learner.publishing.writer import VersionWriter
from protocol.delta import apply_delta, encode_delta
from protocol.errors import RunStopped
from protocol.messages import ChunkRequest
from protocol.weights import digest_of, pack

DEADLINE_SECONDS = 10.0
HERE, ELSEWHERE = "here", "elsewhere"


class Exchange:
    """Notes versions; `publisher` keeps them as the real one does."""

    def __init__(self):
        self.actor_hosts: frozenset[str] = frozenset({ELSEWHERE})
        self.publisher = Publisher(3, "full", "base", 2)
        self.published: list[tuple[int, Any, Any]] = []
        self.halted: list[str] = []
        self.failure: Exception | None = None
        self.asked = threading.Event()
        self._changed = threading.Condition()

    def publish(self, policy_version, packed, delta=None):
        with self._changed:
            self.asked.set()
            if self.failure is not None:
                raise self.failure
            self.publisher.add(policy_version, packed, delta)
            self.published.append((policy_version, packed, delta))
            self._changed.notify_all()

    def halt(self, reason):
        with self._changed:
            self.halted.append(reason)
            self._changed.notify_all()

    def wait_for(self, condition):
        with self._changed:
            assert self._changed.wait_for(condition, DEADLINE_SECONDS), "it did not come to pass"

    def wait_for_version(self, version):
        self.wait_for(lambda: self.published and self.published[-1][0] == version)
        return self.published[-1]


class Shared:
    """A folder with room, or without."""

    def __init__(self, has_room=True):
        self.has_room = has_room
        self.written: list[str] = []
        self.closed = False

    def write(self, packed):
        self.written.append(packed.digest)
        return self.has_room

    def close(self):
        self.closed = True


class SlowEncoder:
    """encode_delta that waits until it is told to go on."""

    def __init__(self):
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, tensors, old, new):
        self.begun.set()
        assert self.go_on.wait(DEADLINE_SECONDS)
        return encode_delta(tensors, old, new)


def weights(version, dtype=mx.bfloat16):
    """A few hundred bytes, most of them the same in every version."""
    values = np.arange(600, dtype=np.float32)
    values[version % 600] = -1.0 - version
    arrays = {"a": mx.array(values[:500]).astype(dtype), "b": mx.array(values[500:]).astype(dtype)}
    mx.eval(arrays)
    return arrays


@pytest.fixture
def start():
    writers, encoders = [], []

    def make(exchange, **more):
        more = {"deltas": True, "host": HERE, **more}
        writer = VersionWriter(exchange, **more)
        writers.append(writer)
        encoders.append(more.get("encode"))
        return writer

    yield make
    for encoder in encoders:
        if isinstance(encoder, SlowEncoder):
            encoder.go_on.set()
    for writer in writers:
        writer.close(DEADLINE_SECONDS)


def digest(future: "Future[str]"):
    return future.result(DEADLINE_SECONDS)


def test_a_version_is_published_with_its_bytes_and_its_digest(start):
    exchange = Exchange()
    found = digest(start(exchange).publish(7, weights(0)))
    version, packed, delta = exchange.wait_for_version(7)
    wanted = pack(weights(0).items())
    assert (packed.tensors, bytes(packed.data)) == (wanted.tensors, bytes(wanted.data))
    assert found == packed.digest == wanted.digest
    assert (version, delta) == (7, None)  # there is none before it


def test_the_next_version_comes_with_what_changed(start):
    exchange = Exchange()
    writer = start(exchange)
    for version in (0, 1):
        writer.publish(version, weights(version))
        _, packed, delta = exchange.wait_for_version(version)
    before = exchange.published[0][1]
    assert delta.from_digest == before.digest
    assert delta.digest == digest_of(delta.payload)
    assert apply_delta(packed.tensors, before.data, delta.payload) == packed.data
    exchange.wait_for(lambda: writer.newest and writer.newest.policy_version == 1)
    newest = writer.newest
    assert newest is not None
    assert (newest.payload_bytes, newest.full_bytes) == (len(delta.payload), len(packed.data))
    assert newest.encode_seconds > 0.0


def test_training_does_not_wait_for_an_encoder_and_actors_get_the_newest_after_it(start):
    exchange, encoder = Exchange(), SlowEncoder()
    writer = start(exchange, encode=encoder)
    writer.publish(0, weights(0))
    exchange.wait_for_version(0)
    writer.publish(1, weights(1))
    assert encoder.begun.wait(DEADLINE_SECONDS)
    for version in (2, 3, 4):  # while version 1 is being encoded
        wanted = pack(weights(version).items()).digest
        assert digest(writer.publish(version, weights(version))) == wanted
    assert [version for version, *_ in exchange.published] == [0]  # no whole ones in between
    encoder.go_on.set()
    _, packed, delta = exchange.wait_for_version(4)
    versions = [version for version, *_ in exchange.published]
    assert versions in ([0, 1, 4], [0, 1, 3, 4])  # 4 may just have been on its way to the queue
    before = exchange.published[-2][1]
    assert delta.from_digest == before.digest
    assert apply_delta(packed.tensors, before.data, delta.payload) == packed.data


@pytest.mark.parametrize(
    ("hosts", "shared", "written", "has_delta"),
    [
        ({ELSEWHERE}, None, 0, True),
        ({ELSEWHERE}, Shared(), 0, True),  # nobody would read it
        ({HERE}, Shared(), 2, False),  # nobody would fetch it
        ({HERE}, None, 0, True),
        ({HERE}, Shared(has_room=False), 2, True),
        ({HERE, ELSEWHERE}, Shared(), 2, True),
        (set(), Shared(), 2, False),  # for the first actor to come
        (set(), None, 0, False),
    ],
)
def test_files_are_written_and_deltas_encoded_where_an_actor_can_use_them(
    start, hosts, shared, written, has_delta
):
    exchange = Exchange()
    exchange.actor_hosts = frozenset(hosts)
    writer = start(exchange, shared=shared)
    for version in (0, 1):
        writer.publish(version, weights(version))
        _, packed, delta = exchange.wait_for_version(version)
    assert (delta is not None) == has_delta
    if shared is not None:
        assert len(shared.written) == written
        assert shared.written[1:] == ([packed.digest] if written else [])


def test_without_deltas_nothing_is_encoded(start):
    exchange = Exchange()
    writer = start(exchange, deltas=False)
    for version in (0, 1):
        writer.publish(version, weights(version))
        assert exchange.wait_for_version(version)[2] is None


def test_a_delta_that_saves_nothing_is_not_published(start):
    exchange = Exchange()
    writer = start(exchange, encode=lambda tensors, old, new: bytes(len(new)))
    for version in (0, 1):
        writer.publish(version, weights(version))
        assert exchange.wait_for_version(version)[2] is None


def test_what_is_published_is_what_was_there_at_the_time(start):
    exchange, encoder = Exchange(), SlowEncoder()
    writer = start(exchange, encode=encoder)
    writer.publish(0, weights(0))
    exchange.wait_for_version(0)
    arrays = weights(1)
    wanted = pack(arrays.items()).digest
    writer.publish(1, arrays)
    arrays["a"] = arrays["a"] * 2
    arrays.clear()
    mx.eval([mx.zeros((500,), mx.bfloat16) for _ in range(50)])
    encoder.go_on.set()
    assert exchange.wait_for_version(1)[1].digest == wanted


@pytest.mark.parametrize("dtype", [mx.bfloat16, mx.float32], ids=str)
def test_an_actor_follows_fifty_versions_by_deltas_bit_for_bit(start, dtype):
    exchange = Exchange()
    writer, held = start(exchange), b""
    for version in range(50):
        writer.publish(version, weights(version, dtype))
        exchange.wait_for_version(version)
        manifest = exchange.publisher.manifest(digest_of(held) if held else "")
        assert manifest is not None
        assert manifest.kind == ("delta" if version else "full")
        asked = ChunkRequest(policy_version=version, digest=manifest.digest, index=0)
        payload = exchange.publisher.chunk(asked).raw  # pyright: ignore
        held = bytes(apply_delta(manifest.tensors, held, payload) if held else payload)
        assert digest_of(held) == manifest.weights_digest
        assert held == bytes(pack(weights(version, dtype).items()).data)


def test_a_failure_to_encode_ends_the_run_with_its_reason(start):
    def broken(tensors, old, new):
        raise MemoryError("no room for the delta")

    exchange = Exchange()
    writer = start(exchange, encode=broken)
    writer.publish(0, weights(0))
    exchange.wait_for_version(0)
    assert digest(writer.publish(1, weights(1)))  # the step's row can still be written
    exchange.wait_for(lambda: exchange.halted)
    assert exchange.halted == ["publishing failed: MemoryError: no room for the delta"]
    with pytest.raises(RunStopped, match="no room for the delta"):
        writer.publish(2, weights(2))


@pytest.mark.parametrize("broken", ["join", "freeze"])
def test_a_failure_to_pack_ends_the_run_and_leaves_no_digest_open(start, monkeypatch, broken):
    def fails(*_):
        raise MemoryError("no room for a copy")

    exchange = Exchange()
    writer = start(exchange)
    if broken == "join":
        monkeypatch.setattr("learner.publishing.writer.join", fails)
        assert digest(writer.publish(0, weights(0))) == pack(weights(0).items()).digest
    else:
        frozen = SimpleNamespace(digest=fails)
        monkeypatch.setattr("learner.publishing.writer.freeze", lambda items: frozen)
        with pytest.raises(RunStopped, match="publishing failed: MemoryError: no room for a copy"):
            digest(writer.publish(0, weights(0)))
    exchange.wait_for(lambda: exchange.halted)
    assert exchange.halted == ["publishing failed: MemoryError: no room for a copy"]
    with pytest.raises(RunStopped, match="no room for a copy"):
        writer.publish(1, weights(1))


def test_no_digest_is_left_open_by_a_failure_before_it(start):
    exchange, encoder = Exchange(), SlowEncoder()
    writer = start(exchange, encode=encoder)
    writer.publish(0, weights(0))
    exchange.wait_for_version(0)
    writer.publish(1, weights(1))
    assert encoder.begun.wait(DEADLINE_SECONDS)
    exchange.failure = ValueError("versions come in order")
    digests = [writer.publish(2, weights(2))]
    encoder.go_on.set()
    exchange.wait_for(lambda: exchange.halted)
    with suppress(RunStopped):
        digests.append(writer.publish(3, weights(3)))
    assert all(digest(future) for future in digests)


def test_the_end_of_the_exchange_is_no_failure_of_ours(start):
    exchange = Exchange()
    exchange.failure = RunStopped("the exchange failed: OSError: the sockets are gone")
    writer = start(exchange)
    digest(writer.publish(0, weights(0)))
    assert exchange.asked.wait(DEADLINE_SECONDS)
    writer.close(DEADLINE_SECONDS)
    assert exchange.halted == []
    with pytest.raises(RunStopped, match="the sockets are gone"):
        writer.publish(1, weights(1))


def test_the_end_waits_no_longer_than_it_may(start):
    exchange, encoder, shared = Exchange(), SlowEncoder(), Shared()
    exchange.actor_hosts = frozenset({HERE, ELSEWHERE})
    writer = start(exchange, encode=encoder, shared=shared)
    writer.publish(0, weights(0))
    exchange.wait_for_version(0)
    writer.publish(1, weights(1))
    assert encoder.begun.wait(DEADLINE_SECONDS)
    writer.close(0.01)  # it would wait for ever
    assert shared.closed


def test_a_writer_that_was_never_used_ends_too(start):
    shared = Shared()
    start(Exchange(), shared=shared).close(0.0)
    assert shared.closed
