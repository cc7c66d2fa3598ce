"""Which share of their time peers had nothing to do, from what their heartbeats count.

`busy_seconds` and `alive_seconds` only ever grow while a peer lives. Knows no clock, no socket and
no roster, and trusts no figure: one peer moves its role's mean by no more than its own share.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class _Seen:
    """What a peer had counted when it was last looked at."""

    busy: float
    alive: float
    idle: float | None = None
    """Share of the time between the last two looks that brought news; None before the second."""


class Idleness:
    """Compares what peers count with what they had counted at the last look."""

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, _Seen]] = {}

    def look(self, role: str, peers: Mapping[str, Mapping[str, float]]) -> float | None:
        """The idle share of a role's time since the last look at it.

        A peer that is new, or that counts anew, is first heard of at the next look; one that has
        not been heard since the last look counts as it did then.

        Args:
            role: of all these peers.
            peers: what the last heartbeat of each said; others are forgotten.

        Returns:
            Mean over peers, in [0, 1]; None where none can be told.
        """
        before = self._seen.get(role, {})
        now = {name: _look(before.get(name), figures) for name, figures in peers.items()}
        self._seen[role] = {name: seen for name, seen in now.items() if seen is not None}
        told = [seen.idle for seen in self._seen[role].values() if seen.idle is not None]
        return _mean(told)


def idle_share(busy: float, alive: float) -> float | None:
    """1 - busy / alive, in [0, 1]; None where that makes no sense."""
    if not (math.isfinite(busy) and math.isfinite(alive)) or alive <= 0.0:
        return None
    return 1.0 - min(max(busy / alive, 0.0), 1.0)


def _look(before: _Seen | None, figures: Mapping[str, float]) -> _Seen | None:
    busy, alive = figures.get("busy_seconds", math.nan), figures.get("alive_seconds", math.nan)
    if not 0.0 <= busy <= alive < math.inf:
        return None
    if before is None or busy < before.busy or alive < before.alive:
        return _Seen(busy, alive)
    if alive == before.alive:
        return before
    return _Seen(busy, alive, idle_share(busy - before.busy, alive - before.alive))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
