"""How the exchange thread lets others see how things are: a `View` and Prometheus' metrics."""

import time
from collections.abc import Mapping

from learner.exchange.counting import all_counts
from learner.exchange.roster import Member, Roster
from learner.exchange.view import Lost, View, take_view
from protocol.metrics import Metrics

SHOW_SECONDS = 1.0


class Showing:
    """Shows the roster and the ledger's counts, about once a second.

    Args:
        roster: of the exchange.
        metrics: the learner's.
    """

    def __init__(self, roster: Roster, metrics: Metrics) -> None:
        self._roster = roster
        self._metrics = metrics
        self._lost = Lost()
        self._worked_at = time.time()
        self._is_over = False
        self.view = View()
        """How things were when they were last shown; any thread may read it."""

    def worked(self) -> None:
        """A rollout, a score or a version came."""
        self._worked_at = time.time()

    def lost(self, member: Member, now: float) -> None:
        """A peer went without a goodbye."""
        self._lost.add(member, now)
        self._metrics.count("mlxrl_peers_lost_total", member.role)

    def is_due(self, now: float) -> bool:
        """Whether it is time to show anew."""
        return now - self.view.taken_at >= SHOW_SECONDS

    def show(self, ledger: Mapping[str, int], now: float, *, is_last: bool = False) -> None:
        """Show how things are.

        Args:
            ledger: its counts.
            now: seconds of the exchange's clock.
            is_last: the run is over; what is shown now stays.
        """
        if self._is_over:
            return
        self._is_over = is_last
        counts = all_counts(ledger, self._roster)
        self.view = take_view(self._roster, self._lost, counts, now)
        self._metrics.set_from("count", counts)
        self._metrics.set("mlxrl_last_progress_timestamp_seconds", self._worked_at)
