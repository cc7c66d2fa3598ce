import struct
import threading
import time
from typing import Any

import pytest

from protocol.messages import (
    PROTOCOL_VERSION,
    Goodbye,
    Heartbeat,
    HeartbeatAck,
    Hello,
    HelloWanted,
    LeaseProgress,
    Message,
    Notice,
    Refused,
    SampleAck,
    Score,
    ScoreAcks,
    WeightsGone,
    Welcome,
)
from protocol.peer import FULL_QUEUE_SECONDS, HELLO_SECONDS, RESEND_SECONDS, PeerLink, PeerStatus
from protocol.transport import Arrival, Channel, LearnerSockets, PeerSockets
from protocol.wire import MAGIC, decode, encode, encode_single

DEADLINE_SECONDS = 10.0
HELLO = Hello(role="reward_worker", peer="worker-1", host="here", pid=1)
WELCOME = Welcome(
    run_id="run-1", run_epoch=2, policy_version=7, config="{}", host="there", run_dir="/runs/x"
)
OTHER_VERSION = [struct.pack(">4sHH", MAGIC, 9, 2), b"of another form"]


def score(sample):
    return Score(
        run_epoch=2, group_id=5, attempt=0, sample=sample, reward=1.0, rewards=(), status="ok"
    )


class FakeTransport:
    """A learner's side and a clock in one; time passes only when the link waits for arrivals.

    `receive` runs the script: each entry is a time and what arrives then, or a function
    of the link that the role calls. At `ends_at` the link is told Goodbye.
    """

    def __init__(self, script, ends_at):
        self.now = 0.0
        self.sent: list[tuple[float, Channel, Message]] = []
        self.room = 10**9
        """Of the rollouts channel's queue."""
        self.closed = threading.Event()
        self.link: PeerLink | None = None
        self._script = [*script, (ends_at, Goodbye(reason="the end of the script"))]

    def clock(self):
        return self.now

    def receive(self, timeout_seconds):
        at, arriving = self._script[0]
        if at > self.now + timeout_seconds:
            self.now += max(timeout_seconds, 1e-6)
            return []
        self.now = max(at, self.now)
        self._script.pop(0)
        if callable(arriving):
            arriving(self.link)
            return []
        if isinstance(arriving, Arrival):
            return [arriving]
        frames = encode(arriving) if isinstance(arriving, Message) else arriving
        return [Arrival(Channel.CONTROL, b"", frames, -1)]

    def send(self, channel, frames):
        if channel is Channel.ROLLOUTS:
            if not self.room:
                return False
            self.room -= 1
        self.sent.append((round(self.now, 3), channel, decode(frames).message))
        return True

    def wake(self):
        pass

    def close(self):
        self.closed.set()

    def times_of(self, message_type):
        return [at for at, _, message in self.sent if isinstance(message, message_type)]


class TickingTransport(FakeTransport):
    """Time passes while the link works, too."""

    def clock(self):
        self.now += 1e-5
        return self.now


def run_script(*script, ends_at, prepare=lambda link: None, made_by=FakeTransport):
    """Run a link to the script's end, in the clock of the script."""
    transport = made_by(script, ends_at)
    link = PeerLink(HELLO, transport, heartbeat_seconds=1.0, clock=transport.clock)
    transport.link = link
    prepare(link)
    link.start()
    assert transport.closed.wait(DEADLINE_SECONDS)
    return transport, link


def test_hello_is_said_again_until_a_welcome_comes():
    transport, _ = run_script((5.0, WELCOME), ends_at=20.0)
    assert transport.times_of(Hello) == [0.0, HELLO_SECONDS, 2 * HELLO_SECONDS]
    assert transport.sent[0] == (0.0, Channel.CONTROL, HELLO)


def test_heartbeats_begin_with_the_welcome_and_say_what_was_reported_last():
    progress = (LeaseProgress(group_id=4, attempt=1, tokens=30),)
    status = PeerStatus("scoring", 7, 3, progress, {"scores": 9.0})
    transport, _ = run_script((5.0, WELCOME), ends_at=8.5, prepare=lambda k: k.report(status))
    assert transport.times_of(Heartbeat) == pytest.approx([5.0, 6.0, 7.0, 8.0], abs=0.01)
    beats = [s for s in transport.sent if isinstance(s[2], Heartbeat)]
    assert {channel for _, channel, _ in beats} == {Channel.CONTROL}
    heartbeat = beats[-1][2]
    assert isinstance(heartbeat, Heartbeat)
    assert (heartbeat.peer, heartbeat.state, heartbeat.policy_version) == ("worker-1", "scoring", 7)
    assert (heartbeat.capacity, heartbeat.progress) == (3, progress)
    assert heartbeat.metrics["scores"] == 9.0
    assert heartbeat.metrics["peak_rss_bytes"] > 1e6


def test_a_learner_that_does_not_know_this_peer_is_told_hello_again():
    transport, _ = run_script((1.0, WELCOME), (4.5, HelloWanted()), (4.6, WELCOME), ends_at=6.0)
    assert transport.times_of(Hello) == [0.0, 4.5]


def ack(**where):
    return ScoreAcks(acks=(SampleAck(**where),))


def keep_score(sample):
    return lambda link: link.keep((5, 0, sample), score(sample))


def test_what_is_kept_is_sent_again_until_acked():
    transport, link = run_script(
        (2.0, WELCOME),
        (3.0, keep_score(1)),
        *[(at + 0.5, HeartbeatAck(run_epoch=1, policy_version=0)) for at in range(3, 14)],
        (14.0, ack(group_id=5, attempt=0, sample=1)),
        ends_at=30.0,
    )
    expected = [3.0, 3.0 + RESEND_SECONDS, 3.0 + 2 * RESEND_SECONDS]
    assert transport.times_of(Score) == pytest.approx(expected, abs=1.01)
    assert {channel for _, channel, m in transport.sent if isinstance(m, Score)} == {
        Channel.ROLLOUTS
    }
    taken = []
    while (received := link.receive(0.0)) is not None:
        taken.append(type(received.message))
    assert set(taken) == {Welcome, HeartbeatAck}  # acks of scores are the link's own


def test_a_learner_that_does_not_answer_finds_no_full_queues_when_it_wakes():
    alive = HeartbeatAck(run_epoch=1, policy_version=0)
    transport, _ = run_script(
        (0.5, WELCOME),
        (2.0, alive),
        *[(5.0 + sample, keep_score(sample)) for sample in range(40)],
        (100.0, alive),
        ends_at=101.0,
    )
    sent = [(at, m.sample) for at, _, m in transport.sent if isinstance(m, Score)]
    silent = [at for at, _ in sent if 9.0 < at < 100.0]
    assert silent == []
    assert {sample for at, sample in sent if at >= 100.0} == set(range(40))
    beats = [at for at in transport.times_of(Heartbeat) if 10.0 < at < 99.0]
    assert 15 <= len(beats) <= 20  # and heartbeats are rarer


def test_what_is_kept_is_sent_at_once_and_not_with_the_next_heartbeat():
    at = [1.3 + sample / 10 for sample in range(5)]
    transport, _ = run_script(
        (0.5, WELCOME),
        *[(time, keep_score(sample)) for sample, time in enumerate(at)],
        ends_at=4.0,
        made_by=TickingTransport,
    )
    assert transport.times_of(Score) == pytest.approx(at, abs=0.01)


def test_one_message_acks_many():
    acks = ScoreAcks(acks=tuple(SampleAck(group_id=5, attempt=0, sample=i) for i in (0, 2)))
    transport, _ = run_script(
        (0.5, WELCOME), *[(1.0, keep_score(i)) for i in range(3)], (2.0, acks), ends_at=8.0
    )
    sent = [m.sample for _, _, m in transport.sent if isinstance(m, Score)]
    assert sent == [0, 1, 2, 1]


def test_what_does_not_fit_into_the_queue_is_tried_again_soon_and_in_order():
    def room_for(number):
        def change(link):
            link._transport.room = number

        return change

    transport, _ = run_script(
        (0.5, WELCOME),
        (0.9, room_for(2)),
        *[(1.0, keep_score(sample)) for sample in range(4)],
        (2.0, room_for(1)),
        (3.0, room_for(100)),
        ends_at=4.0,
    )
    sent = [(at, m.sample) for at, _, m in transport.sent if isinstance(m, Score)]
    assert [sample for _, sample in sent] == [0, 1, 2, 3]
    assert [at for at, _ in sent] == pytest.approx([1.0, 1.0, 2.0, 3.0], abs=2 * FULL_QUEUE_SECONDS)


def test_an_ack_of_another_sample_does_not_stop_the_resending():
    transport, _ = run_script(
        (0.5, WELCOME),
        (0.6, keep_score(1)),
        (1.0, ack(group_id=5, attempt=0, sample=2)),
        (1.1, ack(group_id=5, attempt=1, sample=1)),
        ends_at=20.0,
    )
    assert len(transport.times_of(Score)) >= 3


def test_a_new_registration_in_the_same_run_epoch_sends_everything_kept_at_once():
    transport, _ = run_script(
        (0.5, WELCOME),
        *[(1.0, keep_score(sample)) for sample in range(3)],
        (2.0, HelloWanted()),
        (2.1, keep_score(3)),
        (2.5, WELCOME),
        ends_at=4.0,
    )
    assert transport.times_of(Score) == pytest.approx([1.0] * 3 + [2.5] * 4, abs=0.01)


def test_a_new_run_epoch_forgets_what_the_old_one_asked_for():
    transport, _ = run_script(
        (0.5, WELCOME),
        (1.0, keep_score(1)),
        (2.0, HelloWanted()),
        (2.5, WELCOME.model_copy(update={"run_epoch": 3})),
        (3.0, keep_score(2)),
        ends_at=4.0,
    )
    sent = [(round(at, 1), m.sample) for at, _, m in transport.sent if isinstance(m, Score)]
    assert sent == [(1.0, 1), (3.0, 2)]


def test_a_refusal_ends_the_link_with_code_2_and_the_learners_reason():
    refused = Refused(reason="this is run a, you belong to run b")
    _, link = run_script((0.5, refused), ends_at=5.0)
    assert link.ended is not None
    assert link.ended.exit_code == 2
    assert link.ended.reason == (
        "the learner refused this reward_worker: this is run a, you belong to run b"
    )


def test_a_goodbye_ends_the_link_with_code_0():
    goodbye = Goodbye(reason="60 steps done")
    transport, link = run_script((0.5, WELCOME), (3.0, goodbye), ends_at=9.0)
    assert link.ended == (0, "60 steps done")
    last = transport.sent[-1]
    assert last == (3.0, Channel.CONTROL, Goodbye(reason="the run is over", peer="worker-1"))


def test_a_signal_handler_can_end_the_link_and_the_first_reason_stays():
    link = PeerLink(HELLO, FakeTransport([], 1.0))
    link.leave(143, "terminated")
    link.leave(1, "another reason")
    assert link.ended == (143, "terminated")


def test_a_learner_of_another_protocol_version_ends_the_link_with_code_2_and_both_versions():
    _, link = run_script((0.5, OTHER_VERSION), ends_at=5.0)
    assert link.ended is not None
    assert link.ended.exit_code == 2
    assert (
        f"protocol version 9, this process speaks version {PROTOCOL_VERSION}" in link.ended.reason
    )


def test_garbage_from_the_learner_is_counted_and_changes_nothing():
    garbage = [b"not a header", b"\xc1"]
    transport, link = run_script((0.5, garbage), (1.0, WELCOME), (1.5, garbage), ends_at=3.5)
    assert link.rejected == 2
    assert len(transport.times_of(Heartbeat)) == 3
    assert link.ended == (0, "the end of the script")


def test_everything_that_is_not_the_links_own_is_handed_to_the_role_in_order():
    gone, ack = WeightsGone(policy_version=3), HeartbeatAck(run_epoch=2, policy_version=8)
    _, link = run_script((0.5, WELCOME), (1.0, gone), (1.5, ack), ends_at=3.0)
    received = [link.receive(0.0) for _ in range(4)]
    assert [r.message if r else None for r in received] == [WELCOME, gone, ack, None]


def test_messages_of_a_routed_channel_do_not_pass_through_the_inbox():
    gone, ack = WeightsGone(policy_version=3), HeartbeatAck(run_epoch=2, policy_version=8)
    arrival = Arrival(Channel.WEIGHTS, b"", encode(gone), -1)
    routed = []
    _, link = run_script(
        (0.5, WELCOME),
        (1.0, arrival),
        (1.5, ack),
        (2.0, Arrival(Channel.WEIGHTS, b"", [b"odd"], -1)),
        ends_at=3.0,
        prepare=lambda link: link.route(
            Channel.WEIGHTS, lambda received: routed.append((threading.current_thread(), received))
        ),
    )
    assert [received.message for _, received in routed] == [gone]
    assert routed[0][0].name == "link"
    received = [link.receive(0.0) for _ in range(3)]
    assert [r.message if r else None for r in received] == [WELCOME, ack, None]
    assert link.rejected == 1


def test_a_goodbye_on_a_routed_channel_is_still_the_links_own():
    arrival = Arrival(Channel.WEIGHTS, b"", encode(Goodbye(reason="done")), -1)
    routed = []
    _, link = run_script(
        (0.5, WELCOME),
        (1.0, arrival),
        ends_at=3.0,
        prepare=lambda link: link.route(Channel.WEIGHTS, routed.append),
    )
    assert (link.ended, routed) == ((0, "done"), [])


def test_a_role_that_waits_is_woken():
    link = PeerLink(HELLO, FakeTransport([], 1.0))
    threading.Timer(0.05, link.wake).start()
    began = time.monotonic()
    assert link.receive(DEADLINE_SECONDS) is None
    assert time.monotonic() - began < DEADLINE_SECONDS / 2


def test_a_notice_is_a_single_frame_and_is_handed_to_the_role():
    notice = Notice(run_id="run-1", run_epoch=2, policy_version=8, digest="ab")
    arrival = Arrival(Channel.NOTICE, b"", [memoryview(encode_single(notice))], -1)
    _, link = run_script((0.5, WELCOME), (1.0, arrival), ends_at=2.0)
    assert [r.message for r in (link.receive(0.0), link.receive(0.0)) if r] == [WELCOME, notice]
    assert link.rejected == 0


def test_a_silent_learner_is_told_of_in_the_log(caplog):
    caplog.set_level("WARNING", "protocol.peer")
    run_script((0.5, WELCOME), ends_at=12.0)
    silences = [r.getMessage() for r in caplog.records if "silent" in r.getMessage()]
    assert silences
    assert "silent for 5 s; still trying (registered)" in silences[0]
    assert len(silences) == 2


def test_a_link_that_fails_inside_ends_with_code_1_and_the_reason():
    class Broken(FakeTransport):
        def receive(self, timeout_seconds):
            raise RuntimeError("no more descriptors")

    transport = Broken([], 1.0)
    link = PeerLink(HELLO, transport, clock=transport.clock)
    link.start()
    assert transport.closed.wait(DEADLINE_SECONDS)
    assert link.ended == (1, "the link failed: no more descriptors")


# --- over real sockets ------------------------------------------------------------------------


class Learner:
    """Just enough of one, on real sockets."""

    def __init__(self, port):
        self.sockets = LearnerSockets("127.0.0.1", port)

    def wait_for(self, message_type, number=1) -> list[Any]:
        found, ends = [], time.monotonic() + DEADLINE_SECONDS
        while len(found) < number and time.monotonic() < ends:
            for arrival in self.sockets.receive(0.1):
                message = decode(arrival.frames).message
                assert arrival.routing_id == b"worker-1"
                if isinstance(message, message_type):
                    found.append(message)
        assert len(found) >= number, f"no {message_type.__name__} came"
        return found

    def answer(self, message, channel=Channel.CONTROL):
        frames = encode(message) if isinstance(message, Message) else message
        assert self.sockets.send(channel, b"worker-1", frames)


@pytest.fixture
def learner(free_port):
    made = Learner(free_port)
    yield made
    made.sockets.close()


@pytest.fixture
def link(free_port):
    transport = PeerSockets(f"tcp://127.0.0.1:{free_port}", HELLO.peer)
    made = PeerLink(HELLO, transport, heartbeat_seconds=0.05)
    made.start()
    yield made
    made.close("the test is over")


def ended(link):
    ends = time.monotonic() + DEADLINE_SECONDS
    while link.ended is None and time.monotonic() < ends:
        link.receive(0.02)
    return link.ended


def test_over_sockets_a_peer_registers_beats_delivers_and_says_goodbye(learner, link):
    assert learner.wait_for(Hello) == [HELLO]
    learner.answer(WELCOME)
    received = link.receive(DEADLINE_SECONDS)
    assert received is not None
    assert received.message == WELCOME
    assert len(learner.wait_for(Heartbeat, 3)) >= 3
    link.keep((5, 0, 1), score(1))
    assert learner.wait_for(Score) == [score(1)]
    learner.answer(ack(group_id=5, attempt=0, sample=1), Channel.ROLLOUTS)
    link.close("enough")
    assert learner.wait_for(Goodbye) == [Goodbye(reason="enough", peer="worker-1")]


def test_over_sockets_a_learner_that_comes_back_gets_hello_and_everything_that_was_not_acked(
    free_port, learner, link
):
    learner.wait_for(Hello)
    learner.answer(WELCOME)
    assert link.receive(DEADLINE_SECONDS) is not None
    link.keep((5, 0, 1), score(1))
    learner.wait_for(Score)
    learner.sockets.close()  # before any ack
    learner.sockets = LearnerSockets("127.0.0.1", free_port)
    learner.wait_for(Heartbeat)
    learner.answer(HelloWanted())
    learner.wait_for(Hello)
    learner.answer(WELCOME)
    assert learner.wait_for(Score)[0] == score(1)


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        (Refused(reason="wrong run"), 2, "wrong run"),
        (Goodbye(reason="done"), 0, "done"),
        (OTHER_VERSION, 2, f"version 9, this process speaks version {PROTOCOL_VERSION}"),
    ],
)
def test_over_sockets_the_learner_ends_the_link(learner, link, message, code, reason):
    learner.wait_for(Hello)
    learner.answer(message)
    outcome = ended(link)
    assert outcome is not None
    assert outcome.exit_code == code
    assert reason in outcome.reason


def test_over_sockets_a_report_for_now_is_not_held_back_until_the_next_heartbeat(
    free_port, learner
):
    transport = PeerSockets(f"tcp://127.0.0.1:{free_port}", HELLO.peer)
    slow = PeerLink(HELLO, transport, heartbeat_seconds=3600.0)
    slow.start()
    learner.wait_for(Hello)
    learner.answer(WELCOME)
    learner.wait_for(Heartbeat)
    slow.report(PeerStatus("idle", 8, 1), now=True)
    assert learner.wait_for(Heartbeat)[0].policy_version == 8
    slow.close("done")
