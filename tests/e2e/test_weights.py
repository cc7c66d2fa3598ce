"""Weights on their way from a learner to actors: every bit arrives, and whatever goes wrong heals.

Real sockets and a real actor in a process of its own (witness_actor.py), which prints the digest of
what its model holds; and a whole run whose actors are elsewhere.
"""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from learner.audit import audit
from learner.data.prompts import TokenizedPrompt
from learner.data.sources import Row
from learner.data.stream import PromptStream
from learner.exchange import publish
from learner.exchange.evaluation_book import EvaluationBook
from learner.exchange.exchange import Exchange
from learner.exchange.prompt_book import PromptBook
from learner.exchange.publish import Publisher
from learner.ledger.admission import LedgerLimits
from learner.ledger.ledger import Ledger
from learner.publishing.writer import Published, VersionWriter
from protocol.delta import encode_delta
from protocol.messages import Chunk, Heartbeat, Welcome
from protocol.metrics import Metrics
from protocol.policy import frozen_arrays, load_policy
from protocol.process import this_host
from protocol.transport import Channel, LearnerSockets
from protocol.weights import combined_digest, pack
from protocol.wire import decode

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

WITNESS = Path(__file__).with_name("witness_actor.py")
DEADLINE_SECONDS = 30.0
CHUNK_BYTES = 4096
"""So that the tiny policy's versions, and their deltas, are of several chunks."""
HEALED = "fetching it whole"
"""What an actor logs where it counts a mismatch."""
CHANGED = 0.01
"""Share of the weights that a version changes."""


class Wire(LearnerSockets):
    """A learner's sockets, with a fault of the wire for chunks; remembers the last heartbeat."""

    def __init__(self, port):
        super().__init__("127.0.0.1", port)
        self.fault = lambda _index, frames: frames
        """(the chunk's index, frames) -> what is sent instead; None: nothing is."""
        self.heartbeat: Any = None

    def receive(self, timeout_seconds, *, gather=False):
        arrivals = super().receive(timeout_seconds, gather=gather)
        for arrival in arrivals:
            if arrival.channel is Channel.CONTROL:
                message = decode(arrival.frames).message
                self.heartbeat = message if isinstance(message, Heartbeat) else self.heartbeat
        return arrivals

    def send(self, channel, routing_id, frames):
        if channel is Channel.WEIGHTS:
            message = decode(frames).message
            if isinstance(message, Chunk):
                frames = self.fault(message.index, frames)
        return frames is None or super().send(channel, routing_id, frames)


class Learner:
    """What a learner has for its actors, without the training: the test says what a step made."""

    def __init__(self, config, port):
        policy = load_policy(config)
        self._weights = {
            name: array.astype(mx.bfloat16) for name, array in sorted(policy.trained().items())
        }
        self._random = np.random.default_rng(0)
        self.wire = Wire(port)
        self.encode = encode_delta
        self.version = -1
        self.digests = []
        """Of all versions."""
        self.full_bytes = 0
        prompts = [TokenizedPrompt(Row("t:0", "t", {}), (1,))]
        self.exchange = Exchange(
            transport=self.wire,
            ledger=Ledger(LedgerLimits(1, 2, 1), 1, 0),
            prompts=PromptBook(prompts, EvaluationBook(), PromptStream(1, 0), 0),
            publisher=Publisher(1, "full", combined_digest(frozen_arrays(policy)), 2),
            config=config,
            welcome=Welcome(
                run_id="run",
                run_epoch=1,
                policy_version=0,
                config=config.model_dump_json(),
                host=this_host(),
                run_dir="/nowhere",
                heartbeat_seconds=0.1,
            ),
            vocabulary=35,
            metrics=Metrics(),
        )
        self.writer = VersionWriter(
            self.exchange, deltas=True, encode=lambda *versions: self.encode(*versions)
        )
        self.exchange.start()

    def publish(self):
        """Makes the next version, waits until actors can have it; returns its payload's size."""
        self.version += 1
        if self.version:
            self._weights = {name: self._changed(a) for name, a in self._weights.items()}
        packed = pack(self._weights.items())
        self.full_bytes = len(packed.data)
        self.digests.append(packed.digest)
        self.writer.publish(self.version, self._weights)
        self.wait_until(lambda: self._published().policy_version == self.version)
        return self._published().payload_bytes

    def _changed(self, array):
        words = np.array(array.view(mx.uint16))
        words ^= self._random.random(words.shape) < CHANGED  # their lowest bit
        return mx.array(words).view(mx.bfloat16)

    def _published(self):
        return self.writer.newest or Published(-1, 0.0, 0, 0)

    def held(self, name):
        """What the actor's last heartbeat says of a figure."""
        return self.wire.heartbeat.metrics[name]

    def wait_until(self, condition):
        """Waits until it holds, asking the exchange thread, which so proves that it lives."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, f"not in time; heard {self.wire.heartbeat}"
            self.exchange.counts()
            threading.Event().wait(0.005)

    def wait_until_held(self):
        """Waits until the actor computes with the newest version."""
        self.wait_until(lambda: self.wire.heartbeat.policy_version == self.version)


class Rig:
    """A learner, and an actor that has the first version."""

    def __init__(self, learner, actor):
        self.learner = learner
        self.actor = actor
        learner.publish()
        learner.wait_until(lambda: learner.wire.heartbeat is not None)
        learner.wait_until_held()
        assert self.held_digests() == learner.digests

    def held_digests(self):
        """Of the model's weights after each switch."""
        return self.actor.stdout.split()

    def fetched(self):
        """Bytes of chunks since the last call."""
        before, self._fetched = self._fetched, self.learner.held("weights_fetched_bytes")
        return self._fetched - before

    _fetched = 0.0

    def next_is_a_delta(self):
        """One more version comes, as it should."""
        self.fetched()
        payload_bytes = self.learner.publish()
        self.learner.wait_until_held()
        assert payload_bytes < self.learner.full_bytes / 2
        assert self.fetched() == payload_bytes
        assert self.held_digests()[-1] == self.learner.digests[-1]


@pytest.fixture
def rig(make_config, start, port, monkeypatch):
    monkeypatch.setattr(publish, "CHUNK_BYTES", CHUNK_BYTES)
    config = make_config(learner={"publish": {"share_files": False}})
    learner = Learner(config, port)
    try:
        actor = start(sys.executable, WITNESS, f"tcp://127.0.0.1:{port}")
        yield Rig(learner, actor)
    finally:
        learner.exchange.close("the test is over")
        learner.writer.close(DEADLINE_SECONDS)
    assert actor.ends(10) == 0


def test_fifty_versions_in_a_chain_are_bit_equal_and_come_as_deltas(rig):
    learner = rig.learner
    assert rig.fetched() == learner.full_bytes
    payload_bytes = 0
    for _ in range(50):
        payload_bytes += learner.publish()
        learner.wait_until_held()
    assert rig.held_digests() == learner.digests
    assert len(set(learner.digests)) == 51
    assert rig.fetched() == payload_bytes < 50 * learner.full_bytes / 2
    assert learner.held("weights_mismatches") == 0


def test_an_actor_that_was_stopped_for_some_versions_goes_through_their_deltas(rig):
    learner = rig.learner
    rig.next_is_a_delta()
    rig.actor.process.send_signal(signal.SIGSTOP)
    payload_bytes = sum(learner.publish() for _ in range(4))
    rig.actor.process.send_signal(signal.SIGCONT)
    learner.wait_until_held()
    assert rig.held_digests()[-1] == learner.digests[-1]
    assert set(rig.held_digests()) <= set(learner.digests)
    assert rig.fetched() == payload_bytes
    assert learner.held("weights_mismatches") == 0


def test_a_damaged_chunk_is_counted_and_the_version_comes_whole(rig):
    learner = rig.learner
    rig.fetched()
    spoiled = []

    def spoil_one(index, frames):
        if index != 1 or spoiled:
            return frames
        spoiled.append(index)
        raw = bytearray(frames[-1])
        raw[len(raw) // 2] ^= 1
        return [*frames[:-1], bytes(raw)]

    learner.wire.fault = spoil_one
    payload_bytes = learner.publish()
    learner.wait_until_held()
    assert spoiled == [1]
    assert learner.held("weights_mismatches") == rig.actor.stderr.count(HEALED) == 1
    assert rig.fetched() == payload_bytes + learner.full_bytes
    assert rig.held_digests() == learner.digests
    rig.next_is_a_delta()


def test_a_delta_of_other_bytes_is_counted_and_the_version_comes_whole(rig):
    learner = rig.learner
    rig.fetched()

    def of_other_bytes(tensors, old, new):
        other = bytearray(old)
        other[0] ^= 1
        return encode_delta(tensors, other, new)

    learner.encode = of_other_bytes
    payload_bytes = learner.publish()
    learner.wait_until_held()
    assert learner.held("weights_mismatches") == rig.actor.stderr.count(HEALED) == 1
    assert rig.fetched() == payload_bytes + learner.full_bytes
    assert rig.held_digests() == learner.digests
    learner.encode = encode_delta
    rig.next_is_a_delta()


def test_a_version_that_is_forgotten_while_it_is_fetched_is_given_up_for_the_newest(rig):
    learner = rig.learner
    stuck = threading.Event()
    learner.wire.fault = lambda *_: stuck.set()  # and nothing is sent
    learner.publish()
    assert stuck.wait(DEADLINE_SECONDS)
    learner.encode = lambda _tensors, _old, new: bytes(len(new))  # not less than the whole
    for _ in range(3):  # so no delta leads on, and only two whole ones are kept
        assert learner.publish() == learner.full_bytes
    learner.encode = encode_delta
    learner.wire.fault = lambda _index, frames: frames
    learner.wait_until_held()
    assert rig.held_digests() == [learner.digests[0], learner.digests[-1]]
    assert learner.held("weights_mismatches") == 0
    rig.next_is_a_delta()


def test_lost_chunks_are_asked_for_again(rig):
    learner = rig.learner
    rig.fetched()
    lost = []

    def lose_some(index, frames):
        if index % 3 == 1 and index not in lost:
            lost.append(index)
            return None
        return frames

    learner.wire.fault = lose_some
    payload_bytes = learner.publish()
    learner.wait_until_held()
    assert lost
    assert learner.held("weights_mismatches") == 0
    assert rig.fetched() == payload_bytes  # what had come was kept
    assert rig.held_digests() == learner.digests
    rig.next_is_a_delta()


def elsewhere():
    """What starts a command on a host of another name; nothing where that needs more rights."""
    prefix = ["unshare", "--uts", "sh", "-c", 'hostname elsewhere && exec "$@"', "sh"]
    try:
        tried = subprocess.run([*prefix, "true"], capture_output=True, check=False, timeout=10)
    except OSError:  # no such program
        return []
    return prefix if tried.returncode == 0 else []


def test_a_run_with_actors_elsewhere_outlives_a_learner_that_is_killed(train, start, tmp_path):
    other_host = elsewhere()
    overrides = (
        "roles.actor=0",
        "run.max_steps=16",
        "data.heldout=[]",
        "checkpoints.interval=4",
        "generation.group_size=4",
        "learner.groups_per_step=8",
        f"learner.publish.share_files={'true' if other_host else 'false'}",
    )
    run = train(*overrides)
    command = (*other_host, sys.executable, "-m", "actors", "--learner", run.address)
    cache = str(tmp_path / "cache")
    actors = [start(*command, MLX_RL_CACHE=cache) for _ in range(2)]
    run.until_step(6)
    saved = run.run_dir / "checkpoints" / "step_000004" / "manifest.json"
    run.until(saved.exists, "the checkpoint of step 4")  # written beside training
    run.kill("learner")
    assert run.ends(10) == 128 + signal.SIGKILL
    resumed = train(*overrides, options=["--resume"])
    resumed.succeeds()
    assert [actor.ends(10) for actor in actors] == [0, 0]

    found = audit(run.run_dir)
    assert found.num_violations == 0, found.violations
    rows = run.rows()
    assert [row["run_epoch"] for row in (rows[0], rows[-1])] == [1, 2]
    for epoch in (1, 2):
        newest = [row for row in rows if row["run_epoch"] == epoch][-1]
        assert 0 < newest["publish_bytes"] < newest["publish_full_bytes"] / 2
    names = {row["actor"] for row in run.rollouts()}
    assert len(names) == 2
    assert all(("elsewhere" in name) == bool(other_host) for name in names)
    said = "".join(actor.stderr for actor in actors)
    assert said.count("joined run") >= 2
    assert HEALED not in said
