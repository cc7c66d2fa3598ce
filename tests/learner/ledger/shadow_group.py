"""One group as the shadow ledger sees it: its state is worked out afresh from what arrived."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class ShadowGroup:
    size: int
    attempt: int = 1
    row: int = -1
    holder: str = ""
    version: int = -1
    deadline: float = 0.0
    tokens: int = 0
    rollouts: dict = field(default_factory=dict)
    """sample -> rollout"""
    scored: dict = field(default_factory=dict)
    """sample -> reward"""
    assigned: dict = field(default_factory=dict)
    """sample -> (worker, deadline)"""
    late: Counter = field(default_factory=Counter)
    late_worker: dict = field(default_factory=dict)
    lost: Counter = field(default_factory=Counter)
    in_batch: bool = False

    @property
    def state(self):
        if not self.holder:
            return "ready"
        if len(self.rollouts) < self.size:
            return "leased"
        if len(self.scored) < self.size:
            return "scoring"
        return "handed_over" if self.in_batch else "scored"

    @property
    def floor(self):
        if len(self.rollouts) < self.size:
            return self.version
        return min(version for r in self.rollouts.values() for version, _ in r.policy_versions)

    @property
    def valid(self):
        return [reward for reward in self.scored.values() if reward is not None]

    @property
    def dull(self):
        """Scored throughout, and nothing is learned from it."""
        valid = self.valid
        return self.state == "scored" and len(valid) == self.size and len(set(valid)) < 2
