"""The exchange on real sockets: whatever is sent to its four ports, it lives and counts it."""

import contextlib
import random
import socket
import struct
import threading
import time
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import zmq

from learner.data.prompts import TokenizedPrompt
from learner.data.sources import Row
from learner.data.stream import PromptStream
from learner.exchange.evaluation_book import EvaluationBook
from learner.exchange.exchange import Exchange
from learner.exchange.prompt_book import PromptBook
from learner.exchange.publish import Publisher
from learner.ledger.admission import LedgerLimits
from learner.ledger.ledger import Ledger
from learner.publishing.writer import VersionWriter
from protocol.delta import apply_delta
from protocol.messages import (
    MESSAGE_TYPES,
    PROTOCOL_VERSION,
    Chunk,
    ChunkRequest,
    Hello,
    Manifest,
    ManifestRequest,
    Notice,
    Welcome,
)
from protocol.metrics import Metrics
from protocol.peer import PeerLink, PeerStatus
from protocol.transport import Channel, LearnerSockets, PeerSockets
from protocol.weights import PackedWeights, digest_of, pack
from protocol.wire import MAGIC

DEADLINE_SECONDS = 30.0
HOST = "127.0.0.1"
NUM_MESSAGES = 1000
GAUGE = "mlxrl_policy_version"


class Learner:
    def __init__(self, config, port):
        self.port = port
        self.metrics = Metrics()
        prompts = [TokenizedPrompt(Row("t:0", "t", {}), (1,))]
        self.exchange = Exchange(
            transport=LearnerSockets(HOST, port),
            ledger=Ledger(LedgerLimits(1, 2, 1), 1, 0),
            prompts=PromptBook(prompts, EvaluationBook(), PromptStream(1, 0), 0),
            publisher=Publisher(1, "full", "base", 2),
            config=config,
            welcome=Welcome(
                run_id="r", run_epoch=1, policy_version=0, config="{}", host="h", run_dir="/x"
            ),
            vocabulary=35,
            metrics=self.metrics,
        )
        self.exchange.start()

    def rejected(self, channel):
        """Messages on a channel that were counted as refused."""
        return sum(
            sample.value
            for metric in self.metrics.registry.collect()
            for sample in metric.samples
            if sample.name == "mlxrl_wire_rejected_total"
            and sample.labels["channel"] == channel.name.lower()
        )

    def wait_until(self, condition):
        """Waits until it holds, asking the exchange thread, which so proves that it lives."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, "it did not come to pass in time"
            self.exchange.counts()
            threading.Event().wait(0.01)


@pytest.fixture
def learner(make_config, free_port):
    made = Learner(make_config(), free_port)
    yield made
    made.exchange.close("the test is over")


def random_frames(chosen):
    """Frames that are no message of ours: random bytes, or nearly right."""
    if chosen.random() < 0.5:
        return [chosen.randbytes(chosen.randrange(40)) for _ in range(chosen.randrange(1, 5))]
    code = chosen.choice([*MESSAGE_TYPES, 0, 99])
    version = chosen.choice([PROTOCOL_VERSION, PROTOCOL_VERSION, 9])
    header = struct.pack(">4sHH", MAGIC, version, code)
    return [header, b"\xc1" + chosen.randbytes(chosen.randrange(60))]


def random_messages(channel, chosen):
    """A thousand that the channel refuses."""
    for _ in range(NUM_MESSAGES):
        if channel is Channel.NOTICE:  # a first byte of 0 or 1 would be a subscription
            yield [b"\2" + chosen.randbytes(chosen.randrange(40))]
        else:
            yield random_frames(chosen)


def test_a_thousand_random_messages_on_each_port_are_counted_and_end_nothing(learner):
    chosen = random.Random(5)
    with zmq.Context() as context:
        for channel in Channel:
            kind = zmq.XSUB if channel is Channel.NOTICE else zmq.DEALER
            with context.socket(kind) as stranger:
                stranger.connect(f"tcp://{HOST}:{learner.port + channel}")
                for frames in random_messages(channel, chosen):
                    stranger.send_multipart(frames)
                learner.wait_until(lambda c=channel: learner.rejected(c) >= NUM_MESSAGES)
    assert [learner.rejected(channel) for channel in Channel] == [NUM_MESSAGES] * 4
    assert_it_serves(learner)


def test_bytes_that_are_no_zeromq_end_nothing(learner):
    chosen = random.Random(6)
    for channel in Channel:
        for _ in range(20):
            with socket.create_connection((HOST, learner.port + channel)) as stranger:
                start = chosen.choice(
                    [b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff" + bytes(8) + b"\x7f"]
                )
                stranger.sendall(start + chosen.randbytes(chosen.randrange(200)))
    assert_it_serves(learner)


@contextlib.contextmanager
def joined(learner):
    """An actor's link to the learner, which knows it."""
    hello = Hello(role="actor", peer="actor-1", host="h", pid=1)
    link = PeerLink(hello, PeerSockets(f"tcp://{HOST}:{learner.port}", "actor-1"))
    link.report(PeerStatus("idle", -1, 0))
    link.start()
    try:
        learner.wait_until(lambda: learner.exchange.counts()["peers/actor"] == 1)
        yield link
    finally:
        link.close("the test is over")
    learner.wait_until(lambda: learner.exchange.counts()["peers/actor"] == 0)


def next_of(learner, link, message_type):
    """The next message of a type, with its bytes."""
    found: list[Any] = []

    def came():
        received = link.receive(0.05)
        if received is not None and isinstance(received.message, message_type):
            found.append(received)
        return found

    learner.wait_until(came)
    return found[0].message, bytes(found[0].raw)


def fetch(learner, link, held):
    """(kind, bytes) of the next version for an actor that has some bytes."""
    asked = ManifestRequest(peer="actor-1", held_version=-1, held_digest=digest_of(held))
    link.send(Channel.WEIGHTS, asked)
    manifest, _ = next_of(learner, link, Manifest)
    payload = b""
    while len(payload) < manifest.total_bytes:
        index = len(payload) // manifest.chunk_bytes
        request = ChunkRequest(
            policy_version=manifest.policy_version, digest=manifest.digest, index=index
        )
        link.send(Channel.WEIGHTS, request)
        payload += next_of(learner, link, Chunk)[1]
    assert digest_of(payload) == manifest.digest
    data = apply_delta(manifest.tensors, held, payload) if manifest.from_digest else payload
    assert digest_of(data) == manifest.weights_digest
    return manifest.kind, bytes(data)


def test_an_actor_fetches_the_whole_first_and_then_what_changed(learner):
    values = np.random.default_rng(0).normal(size=1_500_000).astype(np.float32)  # three chunks
    writer = VersionWriter(learner.exchange, deltas=True)
    wanted = {}
    with joined(learner) as link:
        learner.wait_until(lambda: learner.exchange.actor_hosts)
        held = b""
        for version in (1, 2, 3):  # the gauge is 0 before the first
            values[version] = 7.0
            weights = {"x": mx.array(values).astype(mx.bfloat16)}
            wanted[version] = bytes(pack(weights.items()).data)
            writer.publish(version, weights)
            learner.wait_until(lambda v=version: learner.metrics.value(GAUGE) == v)
            kind, held = fetch(learner, link, held)
            assert kind == ("full" if version == 1 else "delta")
            assert held == wanted[version]
        assert fetch(learner, link, wanted[1]) == ("delta", wanted[2])  # the first of two links
        assert fetch(learner, link, b"damaged") == ("full", wanted[3])
    writer.close(DEADLINE_SECONDS)


def assert_it_serves(learner):
    """A peer can still join, and still hears of new weights."""
    with joined(learner) as link:
        heard = []

        def hears_of_weights():
            # a subscription takes a moment: what is published before is not heard
            data = memoryview(b"weights")
            packed = PackedWeights((), data, digest_of(data))
            learner.exchange.publish(0, packed)
            while received := link.receive(0.05):
                heard.append(type(received.message))
            return Notice in heard

        learner.wait_until(hears_of_weights)
