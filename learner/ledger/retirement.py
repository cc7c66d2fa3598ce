"""Which prompts are not sampled any more because the policy has learned them."""

from collections.abc import Iterable, Set
from dataclasses import replace

from learner.ledger.admission import LedgerLimits
from learner.ledger.groups import Group
from learner.ledger.snapshot import Snapshot


class Retirement:
    """Rows of the data that are retired for the rest of the run.

    A row retires with its group, when that was trained or given up as one of equal rewards: then,
    and in the snapshots that call the group done so. A batch that is skipped retires nothing. It
    changed no weights, and its prompts have their next chance to retire in the next epoch. A group
    that is with an actor or being scored while its row retires is finished, but not begun again.

    Source:
        no_resampling_pass_rate of open-instruct, which compares rewards with the highest possible
        one. Ours counts a group's valid rewards alone; a group without any retires nothing.
    """

    def __init__(self, limits: LedgerLimits, snapshot: Snapshot) -> None:
        self._pass_rate = limits.no_resampling_pass_rate
        self._pass_reward = limits.pass_reward
        self._rows = set(snapshot.retired)

    @property
    def rows(self) -> Set[int]:
        """Rows that are retired."""
        return self._rows

    def add(self, groups: Iterable[Group]) -> set[int]:
        """Retires the rows of those groups that passed; returns what was not retired before."""
        new = self._passed(groups)
        self._rows |= new
        return new

    def put_into(self, snapshot: Snapshot, batch: Iterable[Group]) -> Snapshot:
        """Returns the snapshot with what is retired once the batch is trained."""
        new = self._passed(batch)
        rows = tuple(sorted(self._rows | new))
        return replace(snapshot, retired=rows, retired_by_batch=tuple(sorted(new)))

    def _passed(self, groups: Iterable[Group]) -> set[int]:
        return {group.row for group in groups if self._has_passed(group)} - self._rows

    def _has_passed(self, group: Group) -> bool:
        valid = [reward for reward in group.rewards() if reward is not None]
        if self._pass_rate is None or not valid:
            return False
        return sum(reward >= self._pass_reward for reward in valid) / len(valid) >= self._pass_rate
