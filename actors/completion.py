"""One row of the engine's batch: a sample of a lease, and what was sampled so far."""

from dataclasses import dataclass, field

from protocol.messages import FinishReason, Lease


@dataclass(slots=True, eq=False)
class Completion:
    """A completion, from its first token to its last."""

    lease: Lease
    sample: int
    seed: int
    started: float
    token_ids: list[int] = field(default_factory=list)
    behaviour_logprobs: list[float] = field(default_factory=list)
    policy_versions: list[tuple[int, int]] = field(default_factory=list)
    """Run-length: (policy version, tokens sampled under it), oldest first."""
    finish_reason: FinishReason | None = None
    seconds: float = 0.0
    num_dispatched: int = 0
    """Tokens whose sampling has begun; with look-ahead one more than `token_ids` holds."""
    is_cancelled: bool = False

    @property
    def attempt(self) -> tuple[int, int]:
        """(group id, attempt) of its lease."""
        return self.lease.group_id, self.lease.attempt

    @property
    def is_live(self) -> bool:
        """More tokens are wanted of it."""
        return not self.finish_reason and not self.is_cancelled

    def append(self, token: int, logprob: float, policy_version: int) -> None:
        """Take one sampled token."""
        self.token_ids.append(token)
        self.behaviour_logprobs.append(logprob)
        if self.policy_versions and self.policy_versions[-1][0] == policy_version:
            self.policy_versions[-1] = (policy_version, self.policy_versions[-1][1] + 1)
        else:
            self.policy_versions.append((policy_version, 1))

    def next_input(self) -> int:
        """The token that the next forward pass takes in."""
        return self.token_ids[-1] if self.token_ids else int(self.lease.prompt_ids[-1])
