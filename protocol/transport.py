"""ZeroMQ, all of it: sockets, limits, reconnects. The only file that imports zmq.

The learner binds four sockets at fixed offsets from one port, each for one kind of traffic, so
that none waits behind another; every peer dials one address. Sockets may lose messages (a full
queue, a dead connection); that is safe because leases have deadlines, rollouts and scores are kept
until they are acked, and weights are asked for. A transport belongs to one thread; only `wake` may
be called from others.
"""

import contextlib
import errno
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import zmq
from typing_extensions import override
from zmq.utils.monitor import recv_monitor_message

from protocol.channels import LEARNER, MIB, PEER, Bounds, Channel
from protocol.errors import ConfigError
from protocol.wire import Buffer

MAX_BATCH = 256
MAX_BATCH_BYTES = 8 * MIB
"""Messages, and their bytes, taken from one socket before the others get their turn."""
GATHER_SECONDS = 0.01
"""The learner lets messages gather for so long while it trains: fewer turns leave training more of
the machine. Not while weights are fetched: a peer has a few chunks asked for, and asks on as they
come."""


class Arrival(NamedTuple):
    """Frames that came in on a channel."""

    channel: Channel
    routing_id: bytes
    """The sender's socket identity (the learner's side only); empty for a notice's subscriber."""
    frames: list[Buffer]
    connection: int
    """Identifies the control connection that the frames came by, for `LearnerTransport.lost`."""


class LearnerTransport(Protocol):
    """The learner's side, as the exchange thread uses it."""

    def receive(self, timeout_seconds: float, *, gather: bool = False) -> list[Arrival]:
        """Wait for arrivals or a wake; at most MAX_BATCH from each channel.

        Args:
            timeout_seconds: without any.
            gather: nobody is in a hurry: let some more come before they are taken.
        """
        ...

    def lost(self) -> list[int]:
        """Control connections that ended since the last call. Call it before `receive`."""
        ...

    def send(self, channel: Channel, routing_id: bytes, frames: list[Buffer]) -> bool:
        """Queue frames for one peer; False where it is gone or its queue is full."""
        ...

    def publish(self, frame: Buffer) -> None:
        """Send one frame to every subscriber."""
        ...

    def wake(self) -> None:
        """Let `receive` return now. The one method for other threads."""
        ...

    def close(self) -> None:
        """Close all sockets after a short time to flush."""
        ...


class PeerTransport(Protocol):
    """An actor's or reward worker's side, as its link thread uses it."""

    def receive(self, timeout_seconds: float) -> list[Arrival]:
        """Wait for arrivals or a wake; at most MAX_BATCH from each channel."""
        ...

    def send(self, channel: Channel, frames: list[Buffer]) -> bool:
        """Queue frames for the learner; False where the queue is full."""
        ...

    def wake(self) -> None:
        """Let `receive` return now. The one method for other threads."""
        ...

    def close(self) -> None:
        """Close all sockets after a short time to flush."""
        ...


def parse_address(address: str) -> tuple[str, int]:
    """Host and control port of `tcp://host:port`.

    Raises:
        ConfigError: another form.
    """
    scheme, _, rest = address.partition("://")
    host, _, port = rest.rpartition(":")
    if scheme != "tcp" or not host or not port.isdigit() or not 0 < int(port) < 65533:
        raise ConfigError(f"learner address {address!r}: wanted tcp://HOST:PORT")
    return host, int(port)


class _Sockets:
    """What both sides share: a context, a poller, a wake-up pipe."""

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 1024)
        self._poller = zmq.Poller()
        self._channels: dict[Channel, zmq.Socket[bytes]] = {}
        self._woken, self._waker = socket.socketpair()
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._poller.register(self._woken, zmq.POLLIN)

    def _open(self, channel: Channel, kind: int, bounds: Bounds) -> "zmq.Socket[bytes]":
        opened = self._context.socket(kind)
        opened.setsockopt(zmq.LINGER, 500)
        opened.setsockopt(zmq.MAXMSGSIZE, bounds.max_frame_bytes)
        opened.setsockopt(zmq.RCVHWM, bounds.receive_messages)
        opened.setsockopt(zmq.SNDHWM, bounds.send_messages)
        opened.setsockopt(zmq.TCP_KEEPALIVE, 1)
        opened.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 5)
        opened.setsockopt(zmq.TCP_KEEPALIVE_INTVL, 1)
        opened.setsockopt(zmq.TCP_KEEPALIVE_CNT, 4)
        opened.setsockopt(zmq.RECONNECT_IVL, 100)
        opened.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
        opened.setsockopt(zmq.IPV6, 1)
        self._channels[channel] = opened
        return opened

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            self._waker.send(b"w")

    def _ready(self, timeout_seconds: float) -> set[Any]:
        ready = dict(self._poller.poll(max(0, int(timeout_seconds * 1000))))
        if self._woken.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                self._woken.recv(65536)
        return set(ready)

    def close(self) -> None:
        for opened in self._channels.values():
            opened.close()
        self._context.term()
        self._woken.close()
        self._waker.close()


def _drain(opened: "zmq.Socket[bytes]", *, copy: bool) -> Iterator[list[Any]]:
    """Messages in the order of their arrival, as bytes (small ones are cheaper so) or frames."""
    num_bytes = 0
    for _ in range(MAX_BATCH):
        try:
            parts: list[Any] = opened.recv_multipart(zmq.NOBLOCK, copy=copy)
        except zmq.Again:
            return
        num_bytes += sum(map(len, parts))
        yield parts
        if num_bytes >= MAX_BATCH_BYTES:
            return


class LearnerSockets(_Sockets, LearnerTransport):
    """ZeroMQ side of the learner: binds, routes, publishes.

    Raises:
        ConfigError: a port is taken or the address is not one of this host's.
    """

    def __init__(self, bind: str, port: int) -> None:
        super().__init__()
        self._monitor = None
        try:
            for channel in (Channel.CONTROL, Channel.ROLLOUTS, Channel.WEIGHTS):
                router = self._open(channel, zmq.ROUTER, LEARNER[channel])
                router.setsockopt(zmq.ROUTER_MANDATORY, 1)
                router.setsockopt(zmq.ROUTER_HANDOVER, 1)  # a peer that reconnects takes over
                self._bind(router, bind, port + channel)
                self._poller.register(router, zmq.POLLIN)
            publisher = self._open(Channel.NOTICE, zmq.XPUB, LEARNER[Channel.NOTICE])
            self._bind(publisher, bind, port + Channel.NOTICE)
            self._poller.register(publisher, zmq.POLLIN)  # unread, it would keep what peers send
        except ConfigError:
            self.close()
            raise
        control = self._channels[Channel.CONTROL]
        self._monitor = control.get_monitor_socket(zmq.EVENT_DISCONNECTED)

    @staticmethod
    def _bind(opened: "zmq.Socket[bytes]", bind: str, port: int) -> None:
        try:
            opened.bind(f"tcp://{bind}:{port}")
        except zmq.ZMQError as error:
            taken = error.errno == errno.EADDRINUSE
            hint = "is another run using it? Set network.port" if taken else "check network.bind"
            found = f"cannot bind {bind} port {port}: {error.strerror}"
            raise ConfigError(f"{found}; {hint}") from None

    @override
    def receive(self, timeout_seconds: float, *, gather: bool = False) -> list[Arrival]:
        ready = self._ready(timeout_seconds)
        is_fetched_from = self._channels[Channel.WEIGHTS] in ready  # its peers wait for answers
        if gather and not is_fetched_from and not ready.isdisjoint(self._channels.values()):
            time.sleep(GATHER_SECONDS)
        arrivals: list[Arrival] = []
        for channel, opened in self._channels.items():
            if opened in ready:
                for parts in _drain(opened, copy=channel is not Channel.CONTROL):
                    arrivals += _arrivals(channel, parts)
        return arrivals

    @override
    def lost(self) -> list[int]:
        ended: list[int] = []
        while self._monitor is not None and self._monitor.poll(0):
            ended.append(int(recv_monitor_message(self._monitor)["value"]))
        return ended

    @override
    def send(self, channel: Channel, routing_id: bytes, frames: list[Buffer]) -> bool:
        try:
            copy = channel is not Channel.WEIGHTS  # small messages are cheaper to copy
            self._channels[channel].send_multipart([routing_id, *frames], zmq.NOBLOCK, copy=copy)
        except (zmq.Again, zmq.ZMQError):
            return False
        return True

    @override
    def publish(self, frame: Buffer) -> None:
        self._channels[Channel.NOTICE].send(frame, zmq.NOBLOCK)

    @override
    def close(self) -> None:
        if self._monitor is not None:
            self._channels[Channel.CONTROL].disable_monitor()
            self._monitor.close()  # or the context would wait for it for ever
            self._monitor = None
        super().close()


def _arrivals(channel: Channel, parts: Sequence[Any]) -> Iterator[Arrival]:
    """The message as the exchange sees it; nothing for a subscription to notices."""
    if channel is Channel.NOTICE:
        if len(parts) != 1 or parts[0][:1] not in (b"\0", b"\1"):
            yield Arrival(channel, b"", list(parts), -1)
    elif channel is Channel.CONTROL:
        identity, *frames = parts
        buffers: list[Buffer] = [frame.bytes for frame in frames]
        yield Arrival(channel, identity.bytes, buffers, _connection(identity))
    else:
        identity, *frames = parts
        yield Arrival(channel, identity, frames, -1)


def _connection(frame: "zmq.Frame") -> int:
    """File descriptor of the TCP connection that a frame came by; the monitor reports its end.

    Returns:
        -1 where there is none: bytes that ZeroMQ took for its oldest protocol carry no metadata.
    """
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return -1


class PeerSockets(_Sockets, PeerTransport):
    """ZeroMQ side of an actor or reward worker: dials the learner's four ports."""

    def __init__(self, address: str, routing_id: str) -> None:
        super().__init__()
        host, port = parse_address(address)
        for channel in Channel:
            notice = channel is Channel.NOTICE
            opened = self._open(channel, zmq.SUB if notice else zmq.DEALER, PEER[channel])
            if notice:
                opened.setsockopt(zmq.SUBSCRIBE, b"")
            else:
                opened.setsockopt(zmq.ROUTING_ID, routing_id.encode())
            # No ZMQ_HEARTBEAT on either side: libzmq 4.3.5 aborts a process in which a connection
            # ends while its queue is full, and a learner that was stopped has full queues.
            opened.connect(f"tcp://{host}:{port + channel}")
            self._poller.register(opened, zmq.POLLIN)

    @override
    def receive(self, timeout_seconds: float) -> list[Arrival]:
        ready = self._ready(timeout_seconds)
        arrivals: list[Arrival] = []
        for channel, opened in self._channels.items():
            if opened in ready:
                arrivals += [
                    Arrival(channel, b"", [frame.buffer for frame in frames], -1)
                    for frames in _drain(opened, copy=False)
                ]
        return arrivals

    @override
    def send(self, channel: Channel, frames: list[Buffer]) -> bool:
        try:
            self._channels[channel].send_multipart(frames, zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        return True
