"""A role's link to the learner: registration, heartbeats, acks, the end of the run.

The link has a thread of its own, so that heartbeats go on while the role computes. The role takes
messages from `receive` and hands others to `send` and `keep`; it never touches a socket.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import NamedTuple

from protocol.errors import VersionError, WireError
from protocol.messages import (
    Goodbye,
    Heartbeat,
    Hello,
    HelloWanted,
    LeaseProgress,
    Message,
    Refused,
    RolloutAcks,
    ScoreAcks,
    Welcome,
)
from protocol.outbox import Outbox
from protocol.process import peak_rss_bytes
from protocol.transport import Arrival, Channel, PeerTransport
from protocol.wire import Received, decode, decode_single, encode

log = logging.getLogger("protocol.peer")

HELLO_SECONDS = 2.0
SILENCE_SECONDS = 5.0
RESEND_SECONDS = 5.0
FULL_QUEUE_SECONDS = 0.05
"""Until a full queue is tried again."""


class PeerStatus(NamedTuple):
    """What a role is doing, told with every heartbeat."""

    state: str
    policy_version: int
    capacity: int
    progress: tuple[LeaseProgress, ...] = ()
    metrics: dict[str, float] = {}  # noqa: RUF012 - replaced, never changed
    run_epoch: int = -1
    """The one that policy_version and progress belong to."""


class Ended(NamedTuple):
    """How a link ended."""

    exit_code: int
    reason: str


class PeerLink:
    """Keeps a role registered with the learner.

    Args:
        hello: who this peer is.
        transport: connected sockets; the link owns and closes them.
        address: what was dialled, for the log.
        heartbeat_seconds: seconds between heartbeats.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        hello: Hello,
        transport: PeerTransport,
        address: str = "",
        heartbeat_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hello = hello
        self._transport = transport
        self._address = address
        self._heartbeat_seconds = heartbeat_seconds
        self._clock = clock
        # Not SimpleQueue: its timed get can block for ever when a signal handler runs meanwhile.
        self._inbox: queue.Queue[Received | None] = queue.Queue()
        self._routes: dict[Channel, Callable[[Received], None]] = {}
        self._outgoing: deque[tuple[Channel, Message]] = deque()
        self._to_keep: deque[tuple[Hashable, Message]] = deque()
        self._outbox = Outbox(RESEND_SECONDS)
        self._status = PeerStatus("starting", -1, 0)
        self._queue_is_full = False
        self._welcome: Welcome | None = None
        self._run_epoch = -1
        self._hello_at = 0.0
        self._heartbeat_at = 0.0
        self._heard_at = clock()
        self._silence_told_at = clock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self.ended: Ended | None = None
        """Set once the run is over or this peer was refused."""
        self.rejected = 0
        """Messages from the learner that did not decode."""

    def start(self) -> None:
        """Begin to dial, say Hello, and send heartbeats."""
        self._thread.start()

    def route(self, channel: Channel, take: Callable[[Received], None]) -> None:
        """Hand the role's messages of a channel to `take`, in the link's thread, from now on."""
        self._routes[channel] = take

    def wake(self) -> None:
        """Let `receive` return None now, or when it has handed out what came before."""
        self._inbox.put(None)

    def receive(self, timeout_seconds: float) -> Received | None:
        """Next message for the role, or None when none came in time (0: do not wait)."""
        try:
            return self._inbox.get(block=timeout_seconds > 0, timeout=timeout_seconds or None)
        except queue.Empty:
            return None

    def report(self, status: PeerStatus, *, now: bool = False) -> None:
        """Replace what heartbeats say; `now` sends one without waiting for its time."""
        self._status = status
        if now:
            self._heartbeat_at = 0.0
            self._transport.wake()

    def heartbeat(self) -> Heartbeat:
        """What heartbeats say now; any thread may ask."""
        status = self._status
        metrics = {**status.metrics, "peak_rss_bytes": float(peak_rss_bytes())}
        return Heartbeat(peer=self._hello.peer, **status._replace(metrics=metrics)._asdict())

    def send(self, channel: Channel, message: Message) -> None:
        """Send once; it may get lost."""
        self._outgoing.append((channel, message))
        self._transport.wake()

    def keep(self, key: Hashable, message: Message) -> None:
        """Send on the rollouts channel, again and again until it is acked."""
        self._to_keep.append((key, message))
        self._transport.wake()

    def leave(self, exit_code: int, reason: str) -> None:
        """Let the role end as if the run were over; safe in a signal handler."""
        if self.ended is None:
            self.ended = Ended(exit_code, reason)

    def close(self, reason: str) -> None:
        """Say goodbye and end the thread."""
        if self._welcome is not None and not self._closing.is_set():
            self.send(Channel.CONTROL, Goodbye(reason=reason, peer=self._hello.peer))
        self._closing.set()
        self._transport.wake()
        self._thread.join(timeout=2.0)

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                for arrival in self._transport.receive(self._wait_seconds()):
                    self._take(arrival)
                self._send_due()
            self._flush()
        except Exception as error:
            log.exception("the link failed")
            self._end(1, f"the link failed: {error}")
        self._transport.close()

    def _take(self, arrival: Arrival) -> None:
        try:
            notice = arrival.channel is Channel.NOTICE and len(arrival.frames) == 1
            received = decode_single(arrival.frames[0]) if notice else decode(arrival.frames)
            self._handle(arrival.channel, received)
        except VersionError as error:
            self._end(2, f"cannot understand the learner: {error}")
        except WireError as error:
            self.rejected += 1
            log.warning("dropped a message from the learner: %s", error)

    def _wait_seconds(self) -> float:
        due_at = self._hello_at if self._welcome is None else self._heartbeat_at
        most = FULL_QUEUE_SECONDS if self._queue_is_full else 1.0
        return min(max(due_at - self._clock(), 0.0), most)

    def _handle(self, channel: Channel, received: Received) -> None:
        self._heard_at = self._silence_told_at = self._clock()
        message = received.message
        match message:
            case Welcome():
                self._begin(message)
                self._inbox.put(received)
            case Refused():
                self._end(2, f"the learner refused this {self._hello.role}: {message.reason}")
            case Goodbye():
                self.send(Channel.CONTROL, Goodbye(reason="the run is over", peer=self._hello.peer))
                self._end(0, message.reason)
            case HelloWanted():
                self._welcome, self._hello_at = None, 0.0
            case RolloutAcks() | ScoreAcks():
                for ack in message.acks:
                    self._outbox.ack((ack.group_id, ack.attempt, ack.sample))
            case _:
                self._routes.get(channel, self._inbox.put)(received)

    def _begin(self, welcome: Welcome) -> None:
        if self._welcome is None:
            log.info("joined run %s (epoch %d)", welcome.run_id, welcome.run_epoch)
        if welcome.run_epoch != self._run_epoch:
            self._outbox.clear()  # a new learner wants nothing that the old one asked for
            self._run_epoch = welcome.run_epoch
        self._welcome = welcome
        self._heartbeat_seconds = welcome.heartbeat_seconds
        self._heartbeat_at = 0.0
        self._outbox.make_all_due()

    def _end(self, exit_code: int, reason: str) -> None:
        if self.ended is None:
            self.ended = Ended(exit_code, reason)
            log.log(logging.ERROR if exit_code else logging.INFO, "%s", reason)
        self._closing.set()

    def _send_due(self) -> None:
        now = self._clock()
        if self._welcome is None:
            if now >= self._hello_at:
                self._hello_at = now + HELLO_SECONDS
                self._transport.send(Channel.CONTROL, encode(self._hello))
        elif now >= self._heartbeat_at:
            rest = SILENCE_SECONDS if self._is_alone(now) else 0.0
            self._heartbeat_at = now + max(self._heartbeat_seconds, rest)
            self._transport.send(Channel.CONTROL, encode(self.heartbeat()))
        self._flush()
        self._queue_is_full = self._welcome is not None and not self._send_kept()
        self._tell_of_silence(now)

    def _send_kept(self) -> bool:
        """Send what is due and not acked; False if the socket's queue took only a part.

        A learner that does not answer may be stopped, and is not to find its queues full: the
        outbox keeps everything until it is heard again.
        """
        now = self._clock()  # not earlier: what was kept a moment ago is due as well
        if self._is_alone(now):
            return True
        for key, message in self._outbox.due(now):
            if not self._transport.send(Channel.ROLLOUTS, encode(message)):
                return False
            self._outbox.sent(key, now)
        return True

    def _flush(self) -> None:
        while self._to_keep:
            key, message = self._to_keep.popleft()
            self._outbox.keep(key, message, self._clock())
        while self._outgoing:
            channel, message = self._outgoing.popleft()
            self._transport.send(channel, encode(message))

    def _is_alone(self, now: float) -> bool:
        """Whether the learner has not been heard for longer than an answer takes."""
        return now - self._heard_at >= self._heartbeat_seconds + SILENCE_SECONDS

    def _tell_of_silence(self, now: float) -> None:
        if now - self._silence_told_at < SILENCE_SECONDS:
            return
        self._silence_told_at = now
        log.warning(
            "the learner %s has been silent for %.0f s; still trying (%s)",
            self._address,
            now - self._heard_at,
            "not registered" if self._welcome is None else "registered",
        )
