"""Actors and reward workers as the ledger sees them: what they can hold and what they do hold."""

from dataclasses import dataclass, field

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


class Peers:
    """The registered peers; shares work out fairly."""

    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}
        self._turn = 0

    def join(self, name: str, role: Role) -> None:
        """Adds a peer that is not known yet."""
        self._peers[name] = Peer(name, role)

    def get(self, name: str) -> Peer | None:
        """Returns a peer, or None for a name that is not registered."""
        return self._peers.get(name)

    def remove(self, name: str) -> Peer | None:
        """Forgets a peer and returns what was known of it."""
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
        chosen: Peer | None = None
        best = (False, 0, 0)
        for peer in self._peers.values():
            room = peer.capacity - peer.load
            if peer.role != role or room <= 0 or peer.policy_version < oldest_version:
                continue
            if room < size and peer.load:
                continue
            rank = (peer.name != avoid, room, -peer.last_served)
            if chosen is None or rank > best:
                chosen, best = peer, rank
        return chosen

    def give(self, peer: Peer, work: Work, size: int = 1) -> None:
        """Notes that the peer holds this work, of so many completions."""
        self._turn += 1
        peer.last_served = self._turn
        peer.outstanding[work] = size
        peer.load += size

    def deliver(self, name: str, work: Work) -> None:
        """Notes that one completion of this work has come."""
        if (peer := self._peers.get(name)) and work in peer.outstanding:
            peer.outstanding[work] -= 1
            peer.load -= 1

    def release(self, name: str, work: Work) -> None:
        """Notes that the peer, if it is still there, no longer holds this work."""
        if peer := self._peers.get(name):
            peer.load -= peer.outstanding.pop(work, 0)
