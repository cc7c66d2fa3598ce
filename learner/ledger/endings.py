"""How an attempt ends before its time, and how a group ends for good."""

from collections import Counter

from learner.ledger import events as ev
from learner.ledger.admission import LedgerLimits
from learner.ledger.evaluations import Evaluations
from learner.ledger.group_table import GroupTable
from learner.ledger.groups import Group, GroupState
from learner.ledger.leases import Leases
from learner.ledger.retirement import Retirement
from learner.ledger.scoring import Scoring
from learner.ledger.strictness import Strictness


class Endings:
    """Discards attempts and drops groups; each is counted, and said in an action.

    Args:
        limits: The limits of the run.
        table: All groups.
        leases: Told that a lease is over.
        scoring: Told that samples need no score.
        evaluations: Told of evaluation groups that are dropped.
        retirement: A group of a retired row does not begin again.
        strictness: Whether a group may be dropped for its attempts.
        counts: The ledger's; changed here.
    """

    def __init__(
        self,
        *,
        limits: LedgerLimits,
        table: GroupTable,
        leases: Leases,
        scoring: Scoring,
        evaluations: Evaluations,
        retirement: Retirement,
        strictness: Strictness,
        counts: Counter[str],
    ) -> None:
        self._limits = limits
        self._table = table
        self._leases = leases
        self._scoring = scoring
        self._evaluations = evaluations
        self._retirement = retirement
        self._strictness = strictness
        self._counts = counts

    def discard(self, group: Group, reason: str, detail: str) -> list[ev.Action]:
        """Gives an attempt up: the group waits for the next one, or is dropped."""
        discarded = ev.AttemptDiscarded(
            group.group_id, group.attempt, reason, group.lengths(), detail
        )
        self._count(group, f"discarded/{reason}")
        self._leases.end(group)
        self._scoring.forget(group)
        group.next_attempt()
        used_up = group.attempt > self._limits.max_attempts
        if used_up and self._strictness.is_on:
            self._strictness.halt(
                f"group {group.group_id} was given out {group.attempt - 1} times, the last time it "
                f"came to nothing because: {' '.join(filter(None, (reason, detail)))}"
            )
        elif used_up:
            return [discarded, self.drop(group, "attempts")]
        if group.row in self._retirement.rows:
            return [discarded, self.drop(group, "retired")]
        self._table.make_ready(group)
        return [discarded]

    def drop(self, group: Group, reason: str) -> ev.Action:
        """Gives a group up for good."""
        self._count(group, f"dropped/{reason}")
        self._table.finish(group, GroupState.DROPPED)
        self._evaluations.settle(group, scored=False)
        return ev.GroupDropped(group.group_id, reason)

    def _count(self, group: Group, name: str) -> None:
        self._counts[f"evaluation/{name}" if group.purpose == "evaluation" else name] += 1
