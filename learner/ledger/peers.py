"""Actors and reward workers as the ledger sees them: what they can hold and what they do hold."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from protocol.messages import Role

Work = tuple[int, int]
"""(group id, sample) at a reward worker; (group id, -1) at an actor."""


@dataclass(slots=True)
class Peer:
    """One registered peer."""

    name: str
    role: Role
    capacity: int = 0
    policy_version: int = -1
    """An actor's; -1 is none."""
    outstanding: dict[Work, int] = field(default_factory=dict)
    """What it holds -> completions that are still to come from it."""
    load: int = 0
    """Sum of `outstanding`."""
    last_served: int = 0
    """Turn in which it was given work last."""
    joined: int = 0
    """Peers that had joined before it."""


class Line(NamedTuple):
    """Peers with room that one question can compare by their places alone."""

    role: Role
    policy_version: int
    idle: bool
    """They hold nothing, so that any work fits them."""


class Place(NamedTuple):
    """A peer's place in its line; the last one is to be served next."""

    room: int
    minus_last_served: int
    minus_joined: int
    name: str


class Peers:
    """The registered peers; shares work out fairly.

    Those with room stand in sorted lines, so that the next one is found without a look at all.
    """

    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}
        self._turn = 0
        self._num_joined = 0
        self._lines: dict[Line, list[Place]] = {}
        self._places: dict[str, tuple[Line, Place]] = {}
        self._moved: set[str] = set()
        """Peers whose place may not be right any more."""

    def join(self, name: str, role: Role) -> None:
        """Adds a peer that is not known yet."""
        self._num_joined += 1
        self._peers[name] = Peer(name, role, joined=self._num_joined)

    def get(self, name: str) -> Peer | None:
        """Returns a peer, whose capacity and version the caller may change before the next call.

        None for a name that is not registered.
        """
        peer = self._peers.get(name)
        if peer is not None:
            self._moved.add(name)
        return peer

    def remove(self, name: str) -> Peer | None:
        """Forgets a peer and returns what was known of it."""
        self._moved.add(name)
        return self._peers.pop(name, None)

    def most_free(
        self, role: Role, size: int = 1, oldest_version: int = -1, avoid: str = ""
    ) -> Peer | None:
        """Returns the peer with the most room, the one served longest ago among equals.

        Args:
            role: What kind of peer.
            size: Completions that it must have room for; more than its whole capacity fit a peer
                that holds nothing.
            oldest_version: The peer must hold this policy version or a newer one.
            avoid: A peer to take only if no other has room.
        """
        self._line_up()
        places = list(self._first_places(role, size, oldest_version))
        if not places:
            return None
        return self._peers[max(places, key=lambda place: (place.name != avoid, place)).name]

    def give(self, peer: Peer, work: Work, size: int = 1) -> None:
        """Notes that the peer holds this work, of so many completions."""
        self._turn += 1
        peer.last_served = self._turn
        peer.outstanding[work] = size
        peer.load += size
        self._moved.add(peer.name)

    def deliver(self, name: str, work: Work) -> None:
        """Notes that one completion of this work has come."""
        if (peer := self._peers.get(name)) and work in peer.outstanding:
            peer.outstanding[work] -= 1
            peer.load -= 1
            self._moved.add(name)

    def release(self, name: str, work: Work) -> None:
        """Notes that the peer, if it is still there, no longer holds this work."""
        if peer := self._peers.get(name):
            peer.load -= peer.outstanding.pop(work, 0)
            self._moved.add(name)

    def _first_places(self, role: Role, size: int, oldest_version: int) -> Iterator[Place]:
        """The first two of every line that may serve: one of them may have to be avoided."""
        for line, places in self._lines.items():
            if line.role == role and line.policy_version >= oldest_version:
                for place in places[-2:]:
                    if line.idle or place.room >= size:
                        yield place

    def _line_up(self) -> None:
        """Gives every peer that may have moved its right place."""
        for name in self._moved:
            if placed := self._places.pop(name, None):
                line, place = placed
                places = self._lines[line]
                del places[bisect_left(places, place)]
                if not places:
                    del self._lines[line]
            peer = self._peers.get(name)
            if peer is not None and peer.capacity > peer.load:
                line = Line(peer.role, peer.policy_version, not peer.load)
                room = peer.capacity - peer.load
                place = Place(room, -peer.last_served, -peer.joined, name)
                insort(self._lines.setdefault(line, []), place)
                self._places[name] = (line, place)
        self._moved.clear()
