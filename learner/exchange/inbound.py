"""Frames from peers -> ledger events, answers, and counts of what was refused."""

import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType

from learner.exchange.publish import ChunkAnswer, Publisher
from learner.exchange.roster import Member, Roster
from learner.ledger import events as ev
from protocol.errors import VersionError, WireError
from protocol.messages import (
    ChunkRequest,
    Goodbye,
    Heartbeat,
    HeartbeatAck,
    Hello,
    HelloWanted,
    LeaseFailed,
    ManifestRequest,
    Message,
    Refused,
    Rollout,
    RolloutAck,
    RolloutAcks,
    Score,
    Welcome,
)
from protocol.metrics import Metrics
from protocol.transport import Arrival, Channel, LearnerTransport
from protocol.wire import decode, encode

log = logging.getLogger("learner.inbound")


class Inbound:
    """Answers peers, and tells the ledger what they said.

    What does not decode, does not fit its channel or its sender is counted and dropped.

    Args:
        transport: the learner's sockets.
        roster: registered peers.
        publisher: weights.
        apply: hands an event to the ledger and carries out its actions.
        policy_version: the newest that actors may have.
        welcome: the answer to every Hello, but for the policy version.
        vocabulary: token ids are below it.
        metrics: counts.
        clock: monotonic seconds.
        wanted_fingerprint: what every actor must compute with; empty takes any.
    """

    def __init__(
        self,
        *,
        transport: LearnerTransport,
        roster: Roster,
        publisher: Publisher,
        apply: Callable[[ev.Event], None],
        policy_version: Callable[[], int],
        welcome: Welcome,
        vocabulary: int,
        metrics: Metrics,
        clock: Callable[[], float],
        wanted_fingerprint: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._transport = transport
        self._roster = roster
        self._publisher = publisher
        self._apply = apply
        self._policy_version = policy_version
        self._welcome = welcome
        self._vocabulary = vocabulary
        self._metrics = metrics
        self._wanted_fingerprint = wanted_fingerprint
        self._clock = clock
        self.over: Goodbye | None = None
        """Once set, every Hello and heartbeat is answered with it."""

    def take(self, arrival: Arrival) -> None:
        """Handle one arrival, whatever it holds."""
        self._metrics.count("mlxrl_messages_total", arrival.channel.name.lower())
        if arrival.channel is Channel.NOTICE:
            self._count(arrival, "unexpected")
            return
        try:
            message = decode(arrival.frames).message
        except VersionError as error:
            self._count(arrival, error.reason)
            reason = f"this learner speaks protocol version {error.wanted}, you speak {error.found}"
            self._answer(arrival, Refused(reason=f"{reason}: update the older checkout"))
            return
        except WireError as error:
            self._count(arrival, error.reason)
            log.debug("dropped a message on %s: %s", arrival.channel.name, error)
            return
        member = self._roster.find(arrival.routing_id)
        if member is None:
            self._from_stranger(arrival, message)
        elif arrival.channel is Channel.CONTROL:
            self._on_control(arrival, member, message)
        elif arrival.channel is Channel.ROLLOUTS:
            self._on_rollouts(arrival, member, message)
        else:
            self._on_weights(arrival, message)

    def _from_stranger(self, arrival: Arrival, message: Message) -> None:
        if arrival.channel is Channel.CONTROL and isinstance(message, Hello):
            self._register(arrival, message)
        elif self.over is not None:
            self._answer(arrival, self.over)
        elif isinstance(message, Goodbye):
            pass
        else:
            self._count(arrival, "unregistered")
            self._transport.send(Channel.CONTROL, arrival.routing_id, encode(HelloWanted()))

    def _register(self, arrival: Arrival, hello: Hello) -> None:
        if self.over is not None:
            self._answer(arrival, self.over)
        elif hello.peer.encode() != arrival.routing_id:
            self._count(arrival, "identity")
        elif hello.run_id and hello.run_id != self._welcome.run_id:
            reason = f"this is run {self._welcome.run_id}, you belong to run {hello.run_id}"
            self._answer(arrival, Refused(reason=f"{reason}: set network.port to another port"))
        elif hello.role == "actor" and (differ := self._differences(hello.fingerprint)):
            reason = f"this run is deterministic, and your machine computes otherwise: {differ}"
            remedy = "use equal machines and installations, or set run.deterministic to false"
            self._answer(arrival, Refused(reason=f"{reason}; {remedy}"))
        else:
            known = self._roster.get(hello.peer)
            self._roster.register(hello, arrival.connection, self._clock())
            self._apply(ev.PeerJoined(hello.peer, hello.role))
            version = self._policy_version()
            self._answer(arrival, self._welcome.model_copy(update={"policy_version": version}))
            if known is None:
                log.info("%s joined from %s", hello.peer, hello.host)

    def _differences(self, fingerprint: Mapping[str, str]) -> str:
        return "; ".join(
            f"{key} is {fingerprint.get(key)!r}, wanted {wanted!r}"
            for key, wanted in sorted(self._wanted_fingerprint.items())
            if fingerprint.get(key) != wanted
        )

    def _on_control(self, arrival: Arrival, member: Member, message: Message) -> None:
        match message:
            case Hello():
                self._register(arrival, message)
            case Heartbeat():
                self._heartbeat(arrival, member, message)
            case LeaseFailed():
                failed = message
                self._apply(
                    ev.LeaseFailed(
                        member.name,
                        failed.run_epoch,
                        failed.group_id,
                        failed.attempt,
                        failed.reason,
                    )
                )
            case Goodbye():
                log.info("%s left: %s", member.name, message.reason)
                self._roster.remove(member.name, self._clock(), f"it said {message.reason!r}")
                self._apply(ev.PeerLost(member.name))
            case _:
                self._count(arrival, "unexpected")

    def _heartbeat(self, arrival: Arrival, member: Member, heartbeat: Heartbeat) -> None:
        self._roster.heard(member, heartbeat, arrival.connection, self._clock())
        if heartbeat.run_epoch == self._welcome.run_epoch:
            progress = tuple((p.group_id, p.attempt, p.tokens) for p in heartbeat.progress)
            if progress and member.role == "actor":
                self._apply(ev.Progress(member.name, progress))
            capacity, version = heartbeat.capacity, heartbeat.policy_version
        else:  # it has not begun with this epoch yet, and would lose what it is given
            capacity, version = 0, -1
        self._apply(ev.CapacityReported(member.name, capacity, version))
        ack = HeartbeatAck(run_epoch=self._welcome.run_epoch, policy_version=self._policy_version())
        self._answer(arrival, self.over or ack)

    def _on_rollouts(self, arrival: Arrival, member: Member, message: Message) -> None:
        match message:
            case Rollout() if (
                member.role == "actor" and int(message.token_ids.max()) >= self._vocabulary
            ):
                self._count(arrival, "token_range")
                refusal = RolloutAck(
                    group_id=message.group_id,
                    attempt=message.attempt,
                    sample=message.sample,
                    accepted=False,
                    reason="a token id beyond the vocabulary",
                )
                self._answer(arrival, RolloutAcks(acks=(refusal,)))
            case Rollout() if member.role == "actor":
                self._apply(ev.RolloutArrived(member.name, message))
            case Score() if member.role == "reward_worker":
                self._apply(ev.ScoreArrived(member.name, message))
            case _:
                self._count(arrival, "unexpected")

    def _on_weights(self, arrival: Arrival, message: Message) -> None:
        if isinstance(message, ManifestRequest):
            manifest = self._publisher.manifest(message.held_digest)
            if manifest is not None:
                self._metrics.count("mlxrl_weights_manifests_total", manifest.kind)
                self._answer(arrival, manifest)
        elif isinstance(message, ChunkRequest):
            answer = self._publisher.chunk(message)
            if isinstance(answer, ChunkAnswer):
                frames = encode(answer.message, answer.raw)
                self._metrics.count("mlxrl_weights_sent_bytes_total", by=len(answer.raw))
                self._transport.send(Channel.WEIGHTS, arrival.routing_id, frames)
            else:
                self._answer(arrival, answer)
        else:
            self._count(arrival, "unexpected")

    def _answer(self, arrival: Arrival, message: Message) -> None:
        self._transport.send(arrival.channel, arrival.routing_id, encode(message))

    def _count(self, arrival: Arrival, reason: str) -> None:
        channel = arrival.channel.name.lower()
        self._metrics.count("mlxrl_wire_rejected_total", channel, reason)
