"""What the log says of groups that are given up."""

import logging

from learner.ledger import events as ev

log = logging.getLogger("learner.exchange")

EXPECTED = ("zero_advantage", "retired", "no_advantage")
"""Reasons that the config asked for, or that the learner tells once for the whole batch."""
BATCHES_BETWEEN_WARNINGS = 8


class Drops:
    """Tells of each group that was lost, and now and then of those that teach nothing.

    Args:
        groups_per_step: of the run.
    """

    def __init__(self, groups_per_step: int) -> None:
        self._between = BATCHES_BETWEEN_WARNINGS * groups_per_step
        self._equal = 0
        """Groups of equal rewards since the last batch."""

    def hand_over(self) -> None:
        """A batch was found."""
        self._equal = 0

    def note(self, dropped: ev.GroupDropped) -> None:
        """Log what is worth a line."""
        if dropped.reason not in EXPECTED:
            log.warning("group %d is dropped: %s", dropped.group_id, dropped.reason)
        if dropped.reason != "zero_advantage":
            return
        self._equal += 1
        if self._equal % self._between == 0:
            log.warning(
                "%d groups in a row had equal rewards and were replaced, and there is no batch: "
                "take prompts of a difficulty between, mend the reward, or lower "
                "learner.max_refill_groups",
                self._equal,
            )

    def note_attempt(self, discarded: ev.AttemptDiscarded, *, quiet: bool) -> None:
        """Log an attempt that is given up; `quiet`: it is of no interest, the run is over."""
        log.log(
            logging.DEBUG if quiet else logging.INFO,
            "group %d attempt %d is discarded (%s %s), completions of %s tokens",
            discarded.group_id,
            discarded.attempt,
            discarded.reason,
            discarded.detail,
            list(discarded.lengths),
        )
