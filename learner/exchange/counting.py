"""The counts of a run: the ledger's, and what peers say of themselves, by role."""

from collections.abc import Mapping
from typing import get_args

from learner.exchange.idleness import Idleness
from learner.exchange.roster import Roster
from protocol.messages import Role
from protocol.process import peak_rss_bytes


def all_counts(ledger: Mapping[str, int], roster: Roster) -> dict[str, float]:
    """The ledger's counts, and by role `peers/` and `memory/`.

    Memory is the peak resident set of the role's largest process.
    """
    counts: dict[str, float] = {**ledger, "memory/learner/peak_bytes": peak_rss_bytes()}
    for role in get_args(Role):
        peers = roster.of(role)
        peaks = [int(peer.metrics.get("peak_rss_bytes", 0)) for peer in peers]
        counts[f"peers/{role}"] = len(peers)
        counts[f"memory/{role}/peak_bytes"] = max(peaks, default=0)
    return counts


def idle_shares(roster: Roster, idleness: Idleness) -> dict[str, float]:
    """`idle/` by role, where that is known: the share of its time since the last look."""
    shares: dict[str, float] = {}
    for role in get_args(Role):
        figures = {peer.name: peer.metrics for peer in roster.of(role)}
        idle = idleness.look(role, figures)
        if idle is not None:
            shares[f"idle/{role}"] = idle
    return shares
