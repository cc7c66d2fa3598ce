"""Deterministic runs: what others mask or drop is tried again there, and then ends the run."""

from learner.ledger.admission import LedgerLimits
from learner.ledger.events import Halt
from learner.ledger.groups import Group

SETTLED = ("ok", "no_reward_applies")
"""Statuses that say the same each time; any other may be the machine's, and another day's."""


class Strictness:
    """Keeps whatever depends on timing out of a deterministic run's batches.

    Args:
        limits: The limits of the run; unless `deterministic`, nothing is strict.
    """

    def __init__(self, limits: LedgerLimits) -> None:
        self.is_on = limits.deterministic
        self._limits = limits
        self._halts: list[Halt] = []

    def refuses(self, status: str) -> bool:
        """True if a score with this status is not taken: the sample must be scored once more."""
        return self.is_on and status not in SETTLED

    def count_failure(self, group: Group, sample: int, status: str) -> None:
        """Notes a score that was refused; after `max_score_attempts` of them the run is to end."""
        slot = group.samples[sample]
        slot.failed_scores += 1
        if slot.failed_scores >= self._limits.max_score_attempts:
            self.halt(
                f"group {group.group_id} sample {sample} could not be scored "
                f"{slot.failed_scores} times, the last time: {status}"
            )

    def halt(self, what: str) -> None:
        """Ends the run, because of what another run would have masked or dropped."""
        self._halts.append(
            Halt(f"{what}. A deterministic run leaves nothing out: remove the cause and resume")
        )

    def pop_halts(self) -> list[Halt]:
        """Returns and forgets why the run is to end."""
        halts, self._halts = self._halts, []
        return halts
