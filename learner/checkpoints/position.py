"""Where a run stands."""

from dataclasses import dataclass

from learner.ledger.snapshot import Snapshot


@dataclass(frozen=True)
class Position:
    """Where a run stands: everything but the arrays."""

    step: int
    """Batches that were handed to the trainer."""
    policy_version: int
    snapshot: Snapshot
