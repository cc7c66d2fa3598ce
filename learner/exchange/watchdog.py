"""Never an endless silence: who is missing, since when, and when to give up."""

import logging
from collections.abc import Mapping

from learner.exchange.roster import Roster
from protocol.messages import Role

log = logging.getLogger("learner.watchdog")

WARN_SECONDS = 15.0
LONG_STEP_SECONDS = 60.0

START: Mapping[Role, str] = {
    "actor": "python -m actors --learner ADDRESS",
    "reward_worker": "python -m reward_workers --learner ADDRESS",
}


class Watchdog:
    """Watches the peers while training waits for rollouts or scores, and training meanwhile.

    Args:
        no_progress_seconds: without a rollout or a score for so long, the run is over.
        now: the time of the start.
    """

    def __init__(self, no_progress_seconds: float, now: float) -> None:
        self._limit = no_progress_seconds
        self._progress_at = now
        self._warned_at = now
        self._step_began_at: float | None = None
        self._step_told_at = now

    def progress(self, now: float) -> None:
        """Note a rollout, a score, or that nothing is waited for."""
        self._progress_at = self._warned_at = now

    def step_begins(self, now: float) -> None:
        """Note that training got a batch."""
        self._step_began_at = self._step_told_at = now

    def step_ends(self) -> None:
        """Note that training has done with its batch."""
        self._step_began_at = None

    def check_step(self, now: float) -> None:
        """Say from time to time that a step is still running."""
        if self._step_began_at is None or now - self._step_told_at < LONG_STEP_SECONDS:
            return
        self._step_told_at = now
        log.info("a training step has been running for %.0f s", now - self._step_began_at)

    def check(self, now: float, roster: Roster, counts: Mapping[str, int]) -> str | None:
        """Warn from time to time; returns the reason to end the run once there is one."""
        silent = now - self._progress_at
        if silent >= self._limit:
            return f"no progress for {silent:.0f} s: {missing(roster, counts, now)}"
        if now - self._warned_at >= WARN_SECONDS:
            self._warned_at = now
            log.warning("no progress for %.0f s: %s", silent, missing(roster, counts, now))
        return None


def missing(roster: Roster, counts: Mapping[str, int], now: float) -> str:
    """Say what the run waits for, in words."""
    for role in START:
        if not roster.of(role):
            return _nobody(roster, role, now)
    peers = (*roster.of("actor"), *roster.of("reward_worker"))
    doing = ", ".join(f"{peer.name} {peer.state or 'silent'}" for peer in peers)
    states = ("ready", "leased", "scoring", "scored")
    held = ", ".join(f"{counts.get(state, 0)} {state}" for state in states)
    return f"groups: {held}; peers: {doing}"


def _nobody(roster: Roster, role: Role, now: float) -> str:
    name = role.replace("_", " ")
    if left := roster.last_left(role):
        since = f"the last one left {now - left.at:.0f} s ago: {left.reason}"
    else:
        since = "none has come yet"
    return f"no {name} is registered; {since}; start one with: {START[role]}"
