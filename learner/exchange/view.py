"""What other threads may know of the exchange: a picture that is taken now and then.

The exchange thread alone touches ledger and roster. Once a second it puts a new `View` in place of
the last one; whoever serves HTTP reads that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from learner.exchange.roster import Member, Roster
from protocol.messages import Role

LISTED_SECONDS = 300.0
"""For so long a lost peer is still named, so that it is seen to be down."""
REPLACED_SECONDS = 20.0
"""The same once another peer of its role came from its host: it was started again."""
MAX_LOST = 100


class PeerView(NamedTuple):
    """One peer, as it was when the picture was taken."""

    name: str
    role: Role
    host: str
    state: str
    policy_version: int
    capacity: int
    heard_at: float
    """Seconds of the exchange's clock."""
    figures: Mapping[str, float]
    lost_at: float | None = None
    """When it was lost; None while it is registered."""


@dataclass(frozen=True)
class View:
    """The exchange at one time."""

    taken_at: float = 0.0
    """Seconds of the exchange's clock."""
    counts: Mapping[str, float] = field(default_factory=dict[str, float])
    """As `Exchange.counts`, without idle shares."""
    peers: Mapping[str, PeerView] = field(default_factory=dict[str, PeerView])
    """By name: the registered ones, and those lost lately."""


class Lost:
    """Peers that went without a goodbye, and for how long they are still named."""

    def __init__(self) -> None:
        self._lost: dict[str, PeerView] = {}

    def add(self, member: Member, now: float) -> None:
        """Note one."""
        self._lost[member.name] = peer_view(member)._replace(lost_at=now)
        while len(self._lost) > MAX_LOST:
            self._lost.pop(next(iter(self._lost)))

    def named(self, roster: Roster, now: float) -> dict[str, PeerView]:
        """Those that are still to be named."""
        self._lost = {
            name: peer
            for name, peer in self._lost.items()
            if roster.get(name) is None and now - (peer.lost_at or 0.0) < _listed(peer, roster)
        }
        return self._lost


def take_view(roster: Roster, lost: Lost, counts: Mapping[str, float], now: float) -> View:
    """A picture of the roster and the ledger's counts."""
    here = {member.name: peer_view(member) for member in roster.all()}
    return View(now, dict(counts), {**here, **lost.named(roster, now)})


def peer_view(member: Member) -> PeerView:
    """One registered peer."""
    return PeerView(
        member.name,
        member.role,
        member.host,
        member.state,
        member.policy_version,
        member.capacity,
        member.heard_at,
        member.metrics,
    )


def _listed(peer: PeerView, roster: Roster) -> float:
    came = any(
        other.host == peer.host and other.registered_at >= peer.heard_at
        for other in roster.of(peer.role)
    )
    return REPLACED_SECONDS if came else LISTED_SECONDS
