"""Who is registered: addresses, connections, and when each peer was heard last."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from protocol.messages import Heartbeat, Hello, Role
from protocol.process import this_host

DISCONNECT_GRACE_SECONDS = 1.0
"""A connection may break and come back; then the peer keeps its work."""


@dataclass
class Member:
    """One registered peer."""

    name: str
    role: Role
    host: str
    connection: int
    heard_at: float
    disconnected_at: float | None = None
    state: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    pid: int = 0
    policy_version: int = -1
    capacity: int = 0
    registered_at: float = 0.0

    @property
    def routing_id(self) -> bytes:
        """Its socket identity, the same on every channel."""
        return self.name.encode()


class Left(NamedTuple):
    """When a peer was forgotten, and why."""

    at: float
    reason: str


class Roster:
    """Registered peers of the learner.

    Args:
        silence_seconds: a peer that was not heard for so long is lost.
    """

    def __init__(self, silence_seconds: float) -> None:
        self._silence_seconds = silence_seconds
        self._members: dict[str, Member] = {}
        self._left: dict[Role, Left] = {}

    def __len__(self) -> int:
        return len(self._members)

    def register(self, hello: Hello, connection: int, now: float) -> Member:
        """Add a peer, or note that a known one connected again."""
        member = Member(hello.peer, hello.role, hello.host, connection, now, pid=hello.pid)
        member.registered_at = now
        self._members[hello.peer] = member
        return member

    def find(self, routing_id: bytes) -> Member | None:
        """The peer with that socket identity, if it is registered."""
        return self._members.get(routing_id.decode(errors="surrogateescape"))

    def get(self, name: str) -> Member | None:
        """The peer of that name, if it is registered."""
        return self._members.get(name)

    def heard(self, member: Member, heartbeat: Heartbeat, connection: int, now: float) -> None:
        """Note a heartbeat."""
        member.heard_at, member.disconnected_at = now, None
        member.connection = connection
        member.state = heartbeat.state
        member.policy_version, member.capacity = heartbeat.policy_version, heartbeat.capacity
        figures = heartbeat.metrics.items()
        member.metrics = {name: value for name, value in figures if math.isfinite(value)}

    def disconnected(self, connection: int, now: float) -> None:
        """Note that a control connection ended."""
        for member in self._members.values():
            if member.connection == connection:
                member.connection, member.disconnected_at = -1, now

    def remove(self, name: str, now: float, reason: str) -> Member | None:
        """Forget a peer."""
        member = self._members.pop(name, None)
        if member is not None:
            self._left[member.role] = Left(now, reason)
        return member

    def remove_lost(self, now: float) -> list[tuple[Member, str]]:
        """Forget every peer that is gone; returns them with the reason."""
        lost = [(m, reason) for m in self._members.values() if (reason := self._lost(m, now))]
        for member, reason in lost:
            self.remove(member.name, now, reason)
        return lost

    def last_left(self, role: Role) -> Left | None:
        """When and why the last peer of a role was forgotten; None if none was."""
        return self._left.get(role)

    def _lost(self, member: Member, now: float) -> str:
        if member.disconnected_at is not None:
            gone = now - member.disconnected_at >= DISCONNECT_GRACE_SECONDS
            return "its connection ended" if gone else ""
        silent = now - member.heard_at
        return f"silent for {silent:.0f} s" if silent >= self._silence_seconds else ""

    def hosts(self, role: Role) -> frozenset[str]:
        """Where peers are registered; one in the learner's own process is left out."""
        own = (this_host(), os.getpid())
        members = self.of(role)
        return frozenset(each.host for each in members if (each.host, each.pid) != own)

    def all(self) -> list[Member]:
        """All peers."""
        return list(self._members.values())

    def of(self, role: Role) -> list[Member]:
        """All peers of a role."""
        return [member for member in self._members.values() if member.role == role]

    def each(self, action: Callable[[Member], None]) -> None:
        """Do something for every peer."""
        for member in list(self._members.values()):
            action(member)
