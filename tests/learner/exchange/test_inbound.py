"""What peers say -> events, answers and counts, one arrival at a time."""

import struct
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.exchange.inbound import Inbound
from learner.exchange.publish import CHUNK_BYTES, Delta, Publisher
from learner.exchange.roster import Roster
from learner.ledger import events as ev
from protocol.messages import (
    MESSAGE_TYPES,
    PROTOCOL_VERSION,
    Chunk,
    ChunkRequest,
    Goodbye,
    Heartbeat,
    HeartbeatAck,
    Hello,
    HelloWanted,
    LeaseCancel,
    LeaseFailed,
    LeaseGrant,
    LeaseProgress,
    Manifest,
    ManifestRequest,
    Message,
    Notice,
    Refused,
    Rollout,
    RolloutAck,
    RolloutAcks,
    SampleAck,
    Score,
    ScoreAcks,
    ScoreWork,
    WeightsGone,
    Welcome,
)
from protocol.metrics import Metrics
from protocol.transport import Arrival, Channel
from protocol.weights import PackedWeights, digest_of
from protocol.wire import MAGIC, decode, encode

WELCOME = Welcome(
    run_id="run-1", run_epoch=2, policy_version=0, config="{}", host="h", run_dir="/runs/x"
)
HELLO = Hello(role="actor", peer="actor-1", host="there", pid=1)
HEARTBEAT = Heartbeat(
    peer="actor-1",
    state="generating",
    policy_version=6,
    capacity=3,
    progress=(LeaseProgress(group_id=4, attempt=1, tokens=30),),
    run_epoch=2,
)
VOCABULARY = 35


def make_rollout(top_token=VOCABULARY - 1):
    return Rollout.model_validate(
        {
            "run_epoch": 2,
            "group_id": 4,
            "attempt": 1,
            "sample": 0,
            "token_ids": [3, top_token],
            "behaviour_logprobs": [-0.5, -0.25],
            "policy_versions": ((6, 2),),
            "finish_reason": "stop",
            "completion": "x",
            "seconds": 0.5,
        }
    )


SCORE = Score(run_epoch=2, group_id=4, attempt=1, sample=0, reward=1.0, rewards=(), status="ok")
FAILED = LeaseFailed(run_epoch=2, group_id=4, attempt=1, reason="no memory")


class Learner:
    """An Inbound whose answers, events and counts are kept in lists."""

    def __init__(self, *registered, wanted_fingerprint: Mapping[str, str] = MappingProxyType({})):
        self.now = 0.0
        self.sent: list[tuple[Channel, str, Message, bytes]] = []
        self.events: list[ev.Event] = []
        self.metrics = Metrics()
        self.roster = Roster(10.0)
        self.publisher = Publisher(2, "full", "base", 2)
        transport: Any = self
        self.inbound = Inbound(
            transport=transport,
            roster=self.roster,
            publisher=self.publisher,
            apply=self.events.append,
            policy_version=lambda: 7,
            welcome=WELCOME,
            vocabulary=VOCABULARY,
            metrics=self.metrics,
            clock=lambda: self.now,
            wanted_fingerprint=wanted_fingerprint,
        )
        for name in registered:
            role = name.rpartition("-")[0]
            hello = HELLO.model_copy(update={"peer": name, "role": role})
            self.take(Channel.CONTROL, name, hello)
        self.sent.clear()
        self.events.clear()

    def send(self, channel, routing_id, frames):
        received = decode(frames)
        name = routing_id.decode(errors="replace")
        self.sent.append((channel, name, received.message, bytes(received.raw)))
        return True

    def take(self, channel, name, message, connection=5):
        frames = encode(message) if isinstance(message, Message) else message
        self.inbound.take(Arrival(channel, name.encode(), frames, connection))

    def answers(self):
        return [(channel, name, message) for channel, name, message, _ in self.sent]

    def rejected(self):
        """{(channel, reason): count}"""
        return {
            (sample.labels["channel"], sample.labels["reason"]): sample.value
            for metric in self.metrics.registry.collect()
            for sample in metric.samples
            if sample.name == "mlxrl_wire_rejected_total" and sample.value
        }


def test_a_hello_registers_and_is_welcomed_with_the_newest_version():
    learner = Learner()
    learner.take(Channel.CONTROL, "actor-1", HELLO)
    welcome = WELCOME.model_copy(update={"policy_version": 7})
    assert learner.answers() == [(Channel.CONTROL, "actor-1", welcome)]
    assert learner.events == [ev.PeerJoined("actor-1", "actor")]
    assert learner.roster.get("actor-1") is not None
    assert learner.rejected() == {}


def test_a_hello_that_is_said_again_is_welcomed_again():
    learner = Learner("actor-1")
    learner.take(Channel.CONTROL, "actor-1", HELLO, connection=9)
    assert [type(message) for _, _, message in learner.answers()] == [Welcome]
    assert len(learner.roster) == 1
    member = learner.roster.get("actor-1")
    assert member is not None
    assert member.connection == 9


@pytest.mark.parametrize("run_id", ["", "run-1"])
def test_a_peer_of_this_run_or_of_none_is_welcome(run_id):
    learner = Learner()
    learner.take(Channel.CONTROL, "actor-1", HELLO.model_copy(update={"run_id": run_id}))
    assert isinstance(learner.sent[0][2], Welcome)


def test_a_peer_of_another_run_is_refused_with_both_names():
    learner = Learner()
    learner.take(Channel.CONTROL, "actor-1", HELLO.model_copy(update={"run_id": "run-9"}))
    [(_, _, refused)] = learner.answers()
    assert isinstance(refused, Refused)
    assert "run-1" in refused.reason
    assert "run-9" in refused.reason
    assert len(learner.roster) == 0
    assert learner.events == []


WANTED = {"chip": "M4", "mlx": "0.32.4"}


def test_an_actor_that_computes_otherwise_is_refused_with_every_difference():
    learner = Learner(wanted_fingerprint=WANTED)
    odd = HELLO.model_copy(update={"fingerprint": {"mlx": "0.31.0", "python": "3.12"}})
    learner.take(Channel.CONTROL, "actor-1", odd)
    [(_, _, refused)] = learner.answers()
    assert isinstance(refused, Refused)
    assert "chip is None, wanted 'M4'; mlx is '0.31.0', wanted '0.32.4'" in refused.reason
    assert (len(learner.roster), learner.events) == (0, [])


@pytest.mark.parametrize(
    ("role", "fingerprint"),
    [("actor", {**WANTED, "python": "3.12"}), ("reward_worker", {"chip": "M1"})],
)
def test_an_equal_actor_is_welcome_and_so_is_any_reward_worker(role, fingerprint):
    learner = Learner(wanted_fingerprint=WANTED)
    hello = HELLO.model_copy(update={"role": role, "fingerprint": fingerprint})
    learner.take(Channel.CONTROL, "actor-1", hello)
    assert [type(message) for _, _, message in learner.answers()] == [Welcome]


def test_a_hello_under_another_name_than_its_sockets_is_counted_and_not_answered():
    learner = Learner()
    learner.take(Channel.CONTROL, "actor-2", HELLO)
    assert learner.rejected() == {("control", "identity"): 1}
    assert learner.sent == []
    assert len(learner.roster) == 0


@pytest.mark.parametrize(
    ("channel", "message"),
    [
        (Channel.CONTROL, HEARTBEAT),
        (Channel.ROLLOUTS, make_rollout()),
        (Channel.ROLLOUTS, HELLO),
        (Channel.WEIGHTS, ManifestRequest(peer="actor-1", held_version=-1)),
    ],
)
def test_a_stranger_is_asked_to_say_hello_on_the_control_channel(channel, message):
    learner = Learner("actor-2")
    learner.take(channel, "actor-1", message)
    assert learner.answers() == [(Channel.CONTROL, "actor-1", HelloWanted())]
    assert learner.rejected() == {(channel.name.lower(), "unregistered"): 1}
    assert learner.events == []


def test_a_strangers_goodbye_needs_no_answer():
    learner = Learner()
    learner.take(Channel.CONTROL, "actor-1", Goodbye(reason="done", peer="actor-1"))
    assert (learner.sent, learner.events, learner.rejected()) == ([], [], {})


def test_a_heartbeat_tells_progress_then_capacity_and_is_acked():
    learner = Learner("actor-1")
    learner.now = 4.0
    learner.take(Channel.CONTROL, "actor-1", HEARTBEAT, connection=8)
    assert learner.events == [
        ev.Progress("actor-1", ((4, 1, 30),)),
        ev.CapacityReported("actor-1", 3, 6),
    ]
    ack = HeartbeatAck(run_epoch=2, policy_version=7)
    assert learner.answers() == [(Channel.CONTROL, "actor-1", ack)]
    member = learner.roster.get("actor-1")
    assert member is not None
    assert (member.heard_at, member.connection, member.state) == (4.0, 8, "generating")


@pytest.mark.parametrize("run_epoch", [-1, 1, 3])
def test_what_a_heartbeat_says_of_another_run_epoch_is_not_believed(run_epoch):
    learner = Learner("actor-1")
    late = HEARTBEAT.model_copy(update={"run_epoch": run_epoch})
    learner.take(Channel.CONTROL, "actor-1", late)
    assert learner.events == [ev.CapacityReported("actor-1", 0, -1)]  # it would lose leases
    ack = HeartbeatAck(run_epoch=2, policy_version=7)
    assert learner.answers() == [(Channel.CONTROL, "actor-1", ack)]


def test_what_a_peer_says_counts_for_the_socket_it_came_from():
    learner = Learner("actor-1", "actor-2")
    learner.take(Channel.CONTROL, "actor-2", HEARTBEAT)  # which names actor-1
    assert {event.peer for event in learner.events} == {"actor-2"}  # pyright: ignore


def test_failed_leases_rollouts_and_scores_become_events():
    learner = Learner("actor-1", "reward_worker-1")
    rollout = make_rollout()
    learner.take(Channel.CONTROL, "actor-1", FAILED)
    learner.take(Channel.ROLLOUTS, "actor-1", rollout)
    learner.take(Channel.ROLLOUTS, "reward_worker-1", SCORE)
    failed, arrived, scored = learner.events
    assert failed == ev.LeaseFailed("actor-1", 2, 4, 1, "no memory")
    assert isinstance(arrived, ev.RolloutArrived)
    assert arrived.peer == "actor-1"
    assert arrived.rollout.model_dump() == rollout.model_dump()
    assert scored == ev.ScoreArrived("reward_worker-1", SCORE)
    assert learner.sent == []  # the ledger's actions answer them


def test_a_role_may_only_say_what_is_its_own():
    learner = Learner("actor-1", "reward_worker-1")
    learner.take(Channel.ROLLOUTS, "actor-1", SCORE)
    learner.take(Channel.ROLLOUTS, "reward_worker-1", make_rollout())
    assert learner.events == []
    assert learner.rejected() == {("rollouts", "unexpected"): 2}


def test_a_goodbye_frees_the_peers_work_at_once():
    learner = Learner("actor-1")
    learner.take(Channel.CONTROL, "actor-1", Goodbye(reason="told to end", peer="actor-1"))
    assert learner.events == [ev.PeerLost("actor-1")]
    assert learner.roster.get("actor-1") is None


def test_a_token_beyond_the_vocabulary_is_refused_and_counted():
    learner = Learner("actor-1")
    learner.take(Channel.ROLLOUTS, "actor-1", make_rollout(top_token=VOCABULARY))
    refusal = RolloutAck(
        group_id=4,
        attempt=1,
        sample=0,
        accepted=False,
        reason="a token id beyond the vocabulary",
    )
    assert learner.answers() == [(Channel.ROLLOUTS, "actor-1", RolloutAcks(acks=(refusal,)))]
    assert learner.rejected() == {("rollouts", "token_range"): 1}
    assert learner.events == []
    learner.take(Channel.ROLLOUTS, "actor-1", make_rollout(top_token=VOCABULARY - 1))
    assert len(learner.events) == 1


EXPECTED_ON = {
    Channel.CONTROL: {Hello, Heartbeat, LeaseFailed, Goodbye},
    Channel.ROLLOUTS: {Rollout, Score},
    Channel.WEIGHTS: {ManifestRequest, ChunkRequest},
}
EXAMPLES: dict[type[Message], Message] = {
    type(message): message
    for message in (
        HELLO,
        HEARTBEAT,
        FAILED,
        SCORE,
        WELCOME,
        make_rollout(),
        Goodbye(reason="done"),
        Refused(reason="no"),
        HeartbeatAck(run_epoch=2, policy_version=7),
        HelloWanted(),
        LeaseGrant(run_epoch=2, leases=()),
        LeaseCancel(group_id=4, attempt=1, reason="deadline"),
        RolloutAcks(acks=(RolloutAck(group_id=4, attempt=1, sample=0, accepted=True),)),
        ScoreAcks(acks=(SampleAck(group_id=4, attempt=1, sample=0),)),
        ScoreWork(run_epoch=2, tasks=()),
        ManifestRequest(peer="actor-1", held_version=-1),
        ChunkRequest(policy_version=7, digest="d", index=2**53),
        WeightsGone(policy_version=7),
        Chunk(policy_version=7, digest="d", index=0),
        Notice(run_id="run-1", run_epoch=2, policy_version=7, digest="d"),
        Manifest(
            run_epoch=2,
            policy_version=7,
            kind="full",
            digest="d",
            base_digest="b",
            tensors=(),
            chunk_bytes=1,
            total_bytes=0,
        ),
    )
}


@pytest.mark.parametrize("channel", EXPECTED_ON)
@pytest.mark.parametrize("message_type", MESSAGE_TYPES.values(), ids=lambda t: t.__name__)
def test_a_message_on_the_wrong_channel_is_counted_and_changes_nothing(channel, message_type):
    sender = "reward_worker-1" if message_type is Score else "actor-1"
    learner = Learner(sender)
    learner.take(channel, sender, EXAMPLES[message_type])
    if message_type in EXPECTED_ON[channel]:
        assert learner.rejected() == {}
    else:
        assert learner.rejected() == {(channel.name.lower(), "unexpected"): 1}
        assert (learner.sent, learner.events) == ([], [])


def test_whatever_comes_from_a_subscriber_is_counted_and_not_answered():
    learner = Learner("actor-1")
    learner.take(Channel.NOTICE, "", HEARTBEAT)
    learner.take(Channel.NOTICE, "actor-1", [b"junk"])
    assert learner.rejected() == {("notice", "unexpected"): 2}
    assert (learner.sent, learner.events) == ([], [])


HEADER = struct.pack(">4sHH", MAGIC, PROTOCOL_VERSION, Heartbeat.code)


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        ([], "frames"),
        ([b""], "frames"),
        ([HEADER, b"\x80", b"raw"], "frames"),
        ([b"GET / HTTP/1.1", b""], "header"),
        ([struct.pack(">4sHH", MAGIC, PROTOCOL_VERSION, 999), b"\x80"], "unknown_code"),
        ([HEADER, b"\xc1"], "malformed"),
        ([HEADER, b"\x80"], "invalid"),
        ([struct.pack(">4sHH", MAGIC, PROTOCOL_VERSION + 1, 1), b"\x80"], "protocol_version"),
    ],
)
@pytest.mark.parametrize("channel", EXPECTED_ON)
@pytest.mark.parametrize("name", [b"actor-1", b"\x00\xff\xfe"])
def test_garbage_is_counted_by_channel_and_reason(channel, frames, reason, name):
    learner = Learner("actor-1")
    learner.inbound.take(Arrival(channel, name, frames, -1))
    assert learner.rejected() == {(channel.name.lower(), reason): 1}
    assert learner.events == []
    assert len(learner.roster) == 1


def test_a_peer_of_another_protocol_version_is_refused_with_both_versions():
    learner = Learner()
    other = PROTOCOL_VERSION + 1
    learner.take(Channel.CONTROL, "actor-1", [struct.pack(">4sHH", MAGIC, other, 1), b"\xc1"])
    [(channel, name, refused)] = learner.answers()
    assert (channel, name) == (Channel.CONTROL, "actor-1")
    assert isinstance(refused, Refused)
    assert f"speaks protocol version {PROTOCOL_VERSION}, you speak {other}" in refused.reason


def test_a_manifest_and_its_chunks_are_served_with_their_bytes():
    learner = Learner("actor-1")
    asked = ManifestRequest(peer="actor-1", held_version=-1)
    learner.take(Channel.WEIGHTS, "actor-1", asked)
    assert learner.sent == []  # nothing is published yet; the actor asks again
    data = bytes(range(256)) * (CHUNK_BYTES // 256) + b"the end"
    packed = PackedWeights((), memoryview(data), digest_of(data))
    manifest = learner.publisher.add(7, packed)
    learner.take(Channel.WEIGHTS, "actor-1", asked)
    for index in (0, 1, 2):
        request = ChunkRequest(policy_version=7, digest=manifest.digest, index=index)
        learner.take(Channel.WEIGHTS, "actor-1", request)
    assert {channel for channel, *_ in learner.sent} == {Channel.WEIGHTS}
    first, *chunks, gone = learner.sent
    assert first[2] == manifest
    assert [message.index for _, _, message, _ in chunks] == [0, 1]  # pyright: ignore
    assert b"".join(raw for *_, raw in chunks) == data
    assert gone[2] == WeightsGone(policy_version=7)


def test_an_actor_that_has_the_bytes_before_is_given_the_delta():
    learner = Learner("actor-1")
    for version, data in ((6, b"abcdefgh"), (7, b"abcdefgX")):
        payload = memoryview(b"X")
        delta = Delta(digest_of(b"abcdefgh"), payload, digest_of(payload))
        packed = PackedWeights((), memoryview(data), digest_of(data))
        learner.publisher.add(version, packed, delta if version == 7 else None)
    for held in ("", digest_of(b"abcdefgh"), digest_of(b"of another run")):
        asked = ManifestRequest(peer="actor-1", held_version=6, held_digest=held)
        learner.take(Channel.WEIGHTS, "actor-1", asked)
    assert [message.kind for _, _, message in learner.answers()] == ["full", "delta", "full"]  # pyright: ignore


def test_once_the_run_is_over_everyone_hears_goodbye():
    learner = Learner("actor-1")
    over = learner.inbound.over = Goodbye(reason="the run is complete")
    learner.take(Channel.CONTROL, "actor-1", HEARTBEAT)
    learner.take(Channel.CONTROL, "actor-1", HELLO)
    learner.take(Channel.CONTROL, "late", HELLO.model_copy(update={"peer": "late"}))
    learner.take(Channel.ROLLOUTS, "stranger", SCORE)
    assert learner.answers() == [
        (Channel.CONTROL, "actor-1", over),
        (Channel.CONTROL, "actor-1", over),
        (Channel.CONTROL, "late", over),
        (Channel.ROLLOUTS, "stranger", over),
    ]
    assert learner.roster.get("late") is None


header = st.builds(
    lambda magic, version, code: struct.pack(">4sHH", magic, version, code),
    st.sampled_from([MAGIC, b"JUNK"]),
    st.sampled_from([PROTOCOL_VERSION, 9]),
    st.sampled_from([*MESSAGE_TYPES, 0, 77]),
)
body = st.binary(max_size=60) | st.sampled_from(
    [bytes(encode(message)[1]) for message in EXAMPLES.values()]
)
frame_lists = st.lists(st.binary(max_size=20), max_size=4) | st.tuples(header, body).map(list)


@given(st.lists(st.tuples(st.sampled_from(list(EXPECTED_ON)), frame_lists), max_size=20))
def test_whatever_a_stranger_sends_is_counted_or_answered_and_nothing_raises(arrivals):
    learner = Learner()
    for channel, frames in arrivals:
        before = (sum(learner.rejected().values()), len(learner.sent))
        registered = len(learner.roster)
        learner.take(channel, "stranger", frames)
        counted = sum(learner.rejected().values()) - before[0]
        assert counted in (0, 1)
        try:
            message = decode(frames).message
        except Exception:  # noqa: BLE001 - whatever does not decode
            assert counted == 1
        else:
            assert counted == (not isinstance(message, Goodbye))
        assert len(learner.roster) == registered == 0


@given(st.sampled_from(list(EXPECTED_ON)), st.sampled_from(list(EXAMPLES.values())), st.data())
def test_no_change_to_a_registered_peers_message_raises(channel, message, data):
    learner = Learner("actor-1")
    changed = bytearray(encode(message)[1])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(changed) - 1))
        changed[place] = data.draw(st.integers(0, 255))
    learner.take(channel, "actor-1", [encode(message)[0], bytes(changed)])
