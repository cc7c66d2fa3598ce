import contextlib
import random
import socket
import threading
import time

import pytest
import zmq

from learner.exchange.publish import CHUNK_BYTES
from protocol import transport
from protocol.channels import LEARNER, MIB, PEER
from protocol.errors import ConfigError, WireError
from protocol.transport import (
    MAX_BATCH,
    MAX_BATCH_BYTES,
    Channel,
    LearnerSockets,
    PeerSockets,
    parse_address,
)
from protocol.wire import decode

DEADLINE_SECONDS = 10.0
NUM_CONNECTIONS = 250
ROUTED = (Channel.CONTROL, Channel.ROLLOUTS, Channel.WEIGHTS)


@pytest.fixture
def learner(free_port):
    sockets = LearnerSockets("127.0.0.1", free_port)
    yield sockets
    sockets.close()


@pytest.fixture
def dial(learner, free_port):
    """Opens peers; closes before the learner does."""
    opened: list[PeerSockets] = []

    def open_peer(routing_id="actor-1"):
        opened.append(PeerSockets(f"tcp://127.0.0.1:{free_port}", routing_id))
        return opened[-1]

    yield open_peer
    for sockets in opened:
        sockets.close()


def receive(sockets, number, seconds=DEADLINE_SECONDS):
    """At least that many arrivals, or fewer at the deadline."""
    arrivals, ends = [], time.monotonic() + seconds
    while len(arrivals) < number and time.monotonic() < ends:
        arrivals += sockets.receive(0.1)
    return arrivals


def send_all(peer, channel, messages):
    """Sends everything, as a link does: what the full queue refuses is tried again."""
    ends = time.monotonic() + DEADLINE_SECONDS
    for frames in messages:
        while not peer.send(channel, frames):
            assert time.monotonic() < ends, "the queue stays full"
            peer.receive(0.01)


def lost(sockets, seconds=DEADLINE_SECONDS):
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if ended := sockets.lost():
            return ended
        sockets.receive(0.02)
    return []


def test_a_peer_has_the_same_routing_id_on_all_three_channels(learner, dial):
    for routing_id in ("actor-1", "worker-2"):
        peer = dial(routing_id)
        for channel in ROUTED:
            peer.send(channel, [channel.name.encode(), b"body"])
    arrivals = receive(learner, 6)
    found = {(a.channel, a.routing_id, tuple(map(bytes, a.frames))) for a in arrivals}
    names = (b"actor-1", b"worker-2")
    assert found == {(c, n, (c.name.encode(), b"body")) for c in ROUTED for n in names}


def test_the_learner_answers_each_peer_on_the_channel_it_chooses(learner, dial):
    peers = {b"a": dial("a"), b"b": dial("b")}
    for peer in peers.values():
        for channel in ROUTED:
            peer.send(channel, [b"hello"])
    assert len(receive(learner, 6)) == 6
    for name in peers:
        for channel in ROUTED:
            assert learner.send(channel, name, [b"for ", name])
    for name, peer in peers.items():
        found = [(a.channel, b"".join(a.frames)) for a in receive(peer, 3)]
        assert sorted(found) == [(channel, b"for " + name) for channel in ROUTED]


def test_sending_to_a_peer_that_never_came_is_reported(learner):
    assert not learner.send(Channel.CONTROL, b"nobody", [b"x"])


def test_a_notice_reaches_every_subscriber(learner, dial):
    peers = [dial("a"), dial("b")]
    heard = [False, False]
    ends = time.monotonic() + DEADLINE_SECONDS
    while not all(heard) and time.monotonic() < ends:  # a subscription takes a moment to arrive
        learner.publish(b"version 3")
        learner.receive(0.0)
        for i, peer in enumerate(peers):
            found = {(a.channel, bytes(a.frames[0])) for a in peer.receive(0.05)}
            heard[i] |= found == {(Channel.NOTICE, b"version 3")}
    assert heard == [True, True]


def test_what_a_subscriber_sends_arrives_without_its_name_and_subscriptions_do_not(
    learner, dial, free_port
):
    dial()
    with zmq.Context() as context, context.socket(zmq.XSUB) as subscriber:
        subscriber.connect(f"tcp://127.0.0.1:{free_port + Channel.NOTICE}")
        subscriber.send(b"\x01topic")
        subscriber.send_multipart([b"junk", b"more"])
        (found,) = receive(learner, 1)
    assert found == (Channel.NOTICE, b"", [b"junk", b"more"], -1)


def test_lost_names_the_connection_of_a_peer_that_closed_and_of_no_other(learner, dial):
    staying, leaving = dial("staying"), dial("leaving")
    staying.send(Channel.CONTROL, [b"x"])
    leaving.send(Channel.CONTROL, [b"x"])
    connections = {a.routing_id: a.connection for a in receive(learner, 2)}
    assert len(set(connections.values())) == 2
    assert learner.lost() == []
    leaving.close()
    assert lost(learner) == [connections[b"leaving"]]
    assert learner.lost() == []


def test_messages_sent_right_before_a_close_still_arrive(learner, dial):
    peer = dial()
    peer.send(Channel.CONTROL, [b"hello"])
    receive(learner, 1)
    number = PEER[Channel.CONTROL].send_messages // 2
    for i in range(number):
        assert peer.send(Channel.CONTROL, [b"%d" % i])
    peer.close()
    assert [int(bytes(a.frames[0])) for a in receive(learner, number)] == list(range(number))


def test_a_peer_that_comes_back_under_its_name_is_heard_and_answered(learner, dial):
    first = dial("actor-1")
    first.send(Channel.CONTROL, [b"one"])
    receive(learner, 1)
    second = dial("actor-1")
    second.send(Channel.CONTROL, [b"two"])
    (arrival,) = receive(learner, 1)
    assert (arrival.routing_id, bytes(arrival.frames[0])) == (b"actor-1", b"two")
    assert learner.send(Channel.CONTROL, b"actor-1", [b"to the newer"])
    assert [bytes(a.frames[0]) for a in receive(second, 1)] == [b"to the newer"]


def test_a_peer_that_dials_before_the_learner_binds_is_heard_later(free_port):
    peer = PeerSockets(f"tcp://127.0.0.1:{free_port}", "early")
    peer.send(Channel.CONTROL, [b"hello"])
    assert peer.receive(0.2) == []
    learner = LearnerSockets("127.0.0.1", free_port)
    try:
        assert [a.routing_id for a in receive(learner, 1)] == [b"early"]
    finally:
        peer.close()
        learner.close()


@pytest.mark.parametrize("channel", Channel)
def test_an_occupied_port_is_a_config_error_that_names_it(learner, free_port, channel):
    port = free_port + channel
    with pytest.raises(ConfigError, match=rf"port {port}: .*; is another run .* network\.port"):
        LearnerSockets("127.0.0.1", port)


def test_a_bind_address_of_another_host_is_a_config_error(free_port):
    with pytest.raises(ConfigError, match=r"cannot bind 192\.0\.2\.1 .*; check network\.bind"):
        LearnerSockets("192.0.2.1", free_port)


def test_closing_twice_in_a_row_on_one_port_works(free_port):
    for _ in range(2):
        began = time.monotonic()
        LearnerSockets("127.0.0.1", free_port).close()
        assert time.monotonic() - began < 5.0  # a monitor left open would hang it for ever


def test_wake_ends_a_wait_from_another_thread(learner, dial):
    for sockets in (learner, dial()):
        timer = threading.Timer(0.1, sockets.wake)
        timer.start()
        began = time.monotonic()
        assert sockets.receive(DEADLINE_SECONDS) == []
        assert time.monotonic() - began < DEADLINE_SECONDS / 2
        timer.join()


def test_many_wakes_are_one_wake_and_none_of_them_blocks(learner):
    for _ in range(100_000):
        learner.wake()
    assert learner.receive(DEADLINE_SECONDS) == []
    while learner.receive(0.0):
        pass
    learner.close()
    learner.wake()  # of a closed transport: nothing happens


@pytest.mark.parametrize(
    ("channel", "gather", "waits"),
    [
        (Channel.CONTROL, True, True),
        (Channel.ROLLOUTS, True, True),
        (Channel.CONTROL, False, False),
        (Channel.WEIGHTS, True, False),  # its peer waits for the chunk
    ],
)
def test_messages_gather_only_where_nobody_waits(
    learner, dial, monkeypatch, channel, gather, waits
):
    slept = []
    monkeypatch.setattr(transport.time, "sleep", slept.append)
    assert learner.receive(0.0, gather=gather) == [] == slept  # nothing has come
    peer = dial("a")
    assert peer.send(channel, [b"x"])
    while not learner.receive(0.1, gather=gather):
        slept.clear()  # that was its subscription to notices
    assert slept == [transport.GATHER_SECONDS] * waits


def test_one_busy_channel_is_cut_off_so_that_the_others_get_their_turn(learner, dial):
    peers = [dial(f"actor-{i}") for i in range(6)]
    number = PEER[Channel.ROLLOUTS].send_messages
    for peer in peers:
        for _ in range(number):
            assert peer.send(Channel.ROLLOUTS, [b"x"])
    batches, ends = [], time.monotonic() + DEADLINE_SECONDS
    while sum(batches) < 6 * number > MAX_BATCH and time.monotonic() < ends:
        batches.append(len(learner.receive(0.1)))
    assert sum(batches) == 6 * number
    assert max(batches) <= MAX_BATCH


def test_a_batch_ends_with_the_message_that_makes_it_too_large(learner, dial):
    peer, large = dial(), LEARNER[Channel.ROLLOUTS].max_frame_bytes
    send_all(peer, Channel.ROLLOUTS, [[bytes(large)]] * 5)
    sizes, ends = [], time.monotonic() + DEADLINE_SECONDS
    while sum(sizes) < 5 * large and time.monotonic() < ends:
        sizes.append(sum(len(a.frames[0]) for a in learner.receive(0.1)))
    assert sum(sizes) == 5 * large
    assert max(sizes) < MAX_BATCH_BYTES + large


@pytest.mark.parametrize("channel", ROUTED)
def test_a_peer_that_does_not_read_costs_a_bounded_number_of_messages(learner, dial, channel):
    peer = dial()
    peer.send(channel, [b"hello"])
    receive(learner, 1)
    frame = bytes(MIB)
    fits = 0
    while learner.send(channel, b"actor-1", [frame]):
        fits += 1
        assert fits <= LEARNER[channel].send_messages + PEER[channel].receive_messages + 64
    assert len(receive(peer, fits)) == fits  # what was taken from us arrives


def test_a_peer_that_dies_while_its_queue_is_full_ends_nothing(learner, dial, free_port):
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        for option, value in ((zmq.RCVHWM, 1), (zmq.SNDHWM, 4), (zmq.LINGER, 0)):
            peer.setsockopt(option, value)
        peer.setsockopt(zmq.ROUTING_ID, b"dying")
        peer.connect(f"tcp://127.0.0.1:{free_port + Channel.ROLLOUTS}")
        peer.send(b"hello")
        receive(learner, 1)
        for _ in range(20):  # which it does not read, so that its end is a reset
            assert learner.send(Channel.ROLLOUTS, b"dying", [bytes(MIB)])
        while peer.poll(1000, zmq.POLLOUT):
            peer.send(bytes(MIB))
    threading.Event().wait(2.5)  # a heartbeat of ZeroMQ would fall due, and abort this process
    while learner.receive(0.1):
        pass
    assert_still_works(learner, dial("good"))


def test_all_chunks_of_an_actors_credit_fit_while_it_does_not_read(learner, dial):
    peer, credit = dial(), 8
    for _ in range(10):
        for _ in range(credit):
            assert peer.send(Channel.WEIGHTS, [b"chunk, please"])
        for _ in receive(learner, credit):
            assert learner.send(
                Channel.WEIGHTS, b"actor-1", [b"header", b"body", bytes(CHUNK_BYTES)]
            )
        assert len(receive(peer, credit)) == credit


def test_a_learner_that_does_not_read_fills_the_peers_queue_and_then_takes_everything(
    learner, dial
):
    peer, sent = dial(), 0
    while peer.send(Channel.ROLLOUTS, [b"%d" % sent, bytes(MIB)]):
        sent += 1
        assert sent < 1000
    assert [int(a.frames[0]) for a in receive(learner, sent)] == list(range(sent))
    send_all(peer, Channel.ROLLOUTS, [[b"again"]])
    assert len(receive(learner, 1)) == 1


@pytest.mark.parametrize("channel", ROUTED)
def test_a_frame_over_the_limit_costs_its_sender_the_connection_and_nobody_else(
    learner, dial, channel
):
    good, bad = dial("good"), dial("bad")
    good.send(channel, [b"x"])
    bad.send(Channel.CONTROL, [b"x"])
    assert len(receive(learner, 2)) == 2
    bad.send(channel, [bytes(LEARNER[channel].max_frame_bytes + 1)])
    if channel is Channel.CONTROL:
        assert len(lost(learner)) == 1
    good.send(channel, [b"undisturbed"])
    found, ends = set(), time.monotonic() + DEADLINE_SECONDS
    while len(found) < 2 and time.monotonic() < ends:
        bad.send(channel, [b"after a reconnect"])  # what follows the large frame at once is lost
        found |= {(a.routing_id, bytes(a.frames[0])) for a in learner.receive(0.1)}
    assert found == {(b"good", b"undisturbed"), (b"bad", b"after a reconnect")}


@pytest.mark.parametrize("channel", ROUTED)
def test_a_frame_at_the_limit_passes(learner, dial, channel):
    dial().send(channel, [bytes(LEARNER[channel].max_frame_bytes)])
    (arrival,) = receive(learner, 1)
    assert len(arrival.frames[0]) == LEARNER[channel].max_frame_bytes


def assert_still_works(learner, peer):
    peer.send(Channel.CONTROL, [b"still there?"])
    assert [a.routing_id for a in receive(learner, 1)] == [b"good"]
    assert learner.send(Channel.CONTROL, b"good", [b"yes"])
    assert [bytes(a.frames[0]) for a in receive(peer, 1)] == [b"yes"]


@pytest.mark.parametrize("channel", ROUTED)
def test_a_thousand_random_messages_on_a_channel_leave_the_learner_working(learner, dial, channel):
    rng = random.Random(channel)
    hostile = dial("hostile")
    for _ in range(40):
        for _ in range(25):
            frames = [rng.randbytes(rng.randrange(60)) for _ in range(rng.randrange(1, 6))]
            ends = time.monotonic() + DEADLINE_SECONDS
            while not hostile.send(channel, list(frames)):  # what was read is told in batches
                assert time.monotonic() < ends
        assert len(receive(learner, 25)) == 25
    assert_still_works(learner, dial("good"))


def test_a_thousand_random_subscriptions_leave_the_learner_working(learner, dial, free_port):
    rng = random.Random(0)
    with zmq.Context() as context, context.socket(zmq.XSUB) as subscriber:
        subscriber.connect(f"tcp://127.0.0.1:{free_port + Channel.NOTICE}")
        for _ in range(1000):
            subscriber.send(rng.randbytes(rng.randrange(60)))
        good, ends = dial("good"), time.monotonic() + DEADLINE_SECONDS
        good.send(Channel.CONTROL, [b"still there?"])
        while b"good" not in [each.routing_id for each in learner.receive(0.1)]:
            learner.publish(b"version 3")
            assert time.monotonic() < ends, "what the subscriber said hides everybody else"
        assert learner.send(Channel.CONTROL, b"good", [b"yes"])
        assert [bytes(each.frames[0]) for each in receive(good, 1)] == [b"yes"]


@pytest.mark.parametrize("channel", Channel)
def test_hundreds_of_connections_with_random_bytes_leave_the_learner_working(
    learner, dial, free_port, channel
):
    rng = random.Random(channel)
    garbage = [rng.randbytes(rng.randrange(200)) for _ in range(NUM_CONNECTIONS)]
    garbage.append(b"\x04\x00me\x00\x02\x00x")  # ZMTP 1.0, which libzmq still speaks
    for data in garbage:
        hostile = socket.create_connection(("127.0.0.1", free_port + channel))
        with hostile, contextlib.suppress(OSError):  # the learner may hang up at any byte
            hostile.sendall(data)
    for arrival in receive(learner, len(garbage), seconds=0.5):
        assert arrival.connection == -1
        with pytest.raises(WireError):
            decode(arrival.frames)
    assert_still_works(learner, dial("good"))


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("tcp://mac-a.local:19550", ("mac-a.local", 19550)),
        ("tcp://[::1]:1", ("[::1]", 1)),
        ("tcp://10.0.0.1:65532", ("10.0.0.1", 65532)),
    ],
)
def test_an_address_is_a_host_and_the_control_port(address, found):
    assert parse_address(address) == found


@pytest.mark.parametrize(
    "address",
    ["", "mac-a:19550", "tcp://mac-a", "tcp://:19550", "tcp://a:0", "tcp://a:65533", "tcp://a:x",
     "http://a:1", "tcp://a:-1", "tcp://a:1.5"],
)  # fmt: skip
def test_another_form_of_address_is_refused_with_the_form_that_is_wanted(address):
    with pytest.raises(ConfigError, match="wanted tcp://HOST:PORT"):
        parse_address(address)
