"""Never an endless silence: who is missing, since when, and when to give up."""

import logging
from collections.abc import Mapping

from learner.exchange.roster import Roster

log = logging.getLogger("learner.watchdog")

WARN_SECONDS = 15.0


class Watchdog:
    """Watches while training waits for rollouts or scores.

    Args:
        no_progress_seconds: without a rollout or a score for so long, the run is over.
        now: the time of the start.
    """

    def __init__(self, no_progress_seconds: float, now: float) -> None:
        self._limit = no_progress_seconds
        self._progress_at = now
        self._warned_at = now

    def progress(self, now: float) -> None:
        """Note a rollout, a score, or that nothing is waited for."""
        self._progress_at = self._warned_at = now

    def check(self, now: float, roster: Roster, counts: Mapping[str, int]) -> str | None:
        """Warn from time to time; returns the reason to end the run once there is one."""
        silent = now - self._progress_at
        if silent >= self._limit:
            return f"no progress for {silent:.0f} s: {missing(roster, counts)}"
        if now - self._warned_at >= WARN_SECONDS:
            self._warned_at = now
            log.warning("no progress for %.0f s: %s", silent, missing(roster, counts))
        return None


def missing(roster: Roster, counts: Mapping[str, int]) -> str:
    """Say what the run waits for, in words."""
    actors, workers = roster.of("actor"), roster.of("reward_worker")
    if not actors:
        return "no actor is registered; start one with: python -m actors --learner ADDRESS"
    if not workers:
        return (
            "no reward worker is registered; start one with: "
            "python -m reward_workers --learner ADDRESS"
        )
    doing = ", ".join(f"{peer.name} {peer.state or 'silent'}" for peer in (*actors, *workers))
    states = ("ready", "leased", "scoring", "scored")
    held = ", ".join(f"{counts.get(state, 0)} {state}" for state in states)
    return f"groups: {held}; peers: {doing}"
