"""What enters the ledger (events) and what leaves it (actions).

Events come from peers, from the training thread, from the data stream and from the clock; the
exchange turns actions into messages and answers. Neither knows of a socket.
"""

from dataclasses import dataclass
from typing import Literal

from learner.ledger.snapshot import Snapshot
from protocol.messages import Role, Rollout, Score

Purpose = Literal["train", "evaluation"]


@dataclass(frozen=True, slots=True)
class PromptsAdded:
    """Data: the next prompts of the endless training stream, by their rising index in it."""

    group_ids: tuple[int, ...]
    rows: tuple[int, ...]
    """The row of the data that each stands for; a retired one is not issued."""


@dataclass(frozen=True, slots=True)
class PromptsEnded:
    """Data: no prompt follows, or none that is not retired."""


@dataclass(frozen=True, slots=True)
class PeerJoined:
    """A peer registered; one that is known already reconnected and keeps what it holds."""

    peer: str
    role: Role


@dataclass(frozen=True, slots=True)
class PeerLost:
    """A peer left, or was silent for too long."""

    peer: str


@dataclass(frozen=True, slots=True)
class CapacityReported:
    """How much a peer can hold at once: absolute and standing, so that repeating it is harmless."""

    peer: str
    capacity: int
    """Completions to generate (actor) or to score (reward worker)."""
    policy_version: int = -1
    """Held by an actor; -1 is none."""


@dataclass(frozen=True, slots=True)
class Progress:
    """An actor's leases as (group id, attempt, tokens sampled so far)."""

    peer: str
    leases: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class LeaseFailed:
    """An actor cannot finish an attempt."""

    peer: str
    run_epoch: int
    group_id: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class RolloutArrived:
    """One finished completion, maybe not for the first time."""

    peer: str
    rollout: Rollout


@dataclass(frozen=True, slots=True)
class ScoreArrived:
    """The rewards of one completion, maybe not for the first time."""

    peer: str
    score: Score


@dataclass(frozen=True, slots=True)
class BatchWanted:
    """Training: waits for the next batch; stands until one is handed over."""


@dataclass(frozen=True, slots=True)
class BatchTrained:
    """Training: the batch in hand made the next policy version."""


@dataclass(frozen=True, slots=True)
class BatchSkipped:
    """Training: the batch in hand was given up; the policy version stays."""

    reason: str
    """A short label to count under."""


@dataclass(frozen=True, slots=True)
class EvaluationStarted:
    """Training: complete these prompts at the current version; no batch may be in hand."""

    group_ids: tuple[int, ...]
    """From EVALUATION_IDS on, rising, never used before in this run epoch."""
    num_samples: tuple[int, ...]
    """Completions of each."""


@dataclass(frozen=True, slots=True)
class Ticked:
    """Clock: look at the deadlines."""


Event = (
    PromptsAdded
    | PromptsEnded
    | PeerJoined
    | PeerLost
    | CapacityReported
    | Progress
    | LeaseFailed
    | RolloutArrived
    | ScoreArrived
    | BatchWanted
    | BatchTrained
    | BatchSkipped
    | EvaluationStarted
    | Ticked
)


@dataclass(frozen=True, slots=True)
class GrantLease:
    """To an actor: generate this group."""

    peer: str
    group_id: int
    attempt: int
    purpose: Purpose
    num_samples: int
    policy_version: int
    """Training: this version or a newer one. Evaluation: exactly this one."""


@dataclass(frozen=True, slots=True)
class CancelLease:
    """To an actor: this attempt is of no use any more."""

    peer: str
    group_id: int
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class AckRollout:
    """To an actor: forget this rollout; it was taken, or it never will be."""

    peer: str
    group_id: int
    attempt: int
    sample: int
    accepted: bool
    reason: str


@dataclass(frozen=True, slots=True)
class AssignScore:
    """To a reward worker: score this sample."""

    peer: str
    group_id: int
    attempt: int
    sample: int


@dataclass(frozen=True, slots=True)
class AckScore:
    """To a reward worker: forget this score."""

    peer: str
    group_id: int
    attempt: int
    sample: int


@dataclass(frozen=True, slots=True)
class HandOver:
    """To training: the next batch; no groups means that the data has ended."""

    group_ids: tuple[int, ...]
    snapshot: Snapshot
    """Belongs to the weights that this batch results in."""


@dataclass(frozen=True, slots=True)
class GroupDropped:
    """For logs: a group is given up for good."""

    group_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class AttemptDiscarded:
    """For logs: an attempt is given up and its group starts over (or is dropped, said apart)."""

    group_id: int
    attempt: int
    reason: str
    """A label to count under."""
    lengths: tuple[int, ...]
    """Tokens of the rollouts that are thrown away."""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class NeedPrompts:
    """To the data stream: answer with PromptsAdded or PromptsEnded."""

    count: int


@dataclass(frozen=True, slots=True)
class EvaluationFinished:
    """To training: the evaluation's groups, readable until the next evaluation starts."""

    group_ids: tuple[int, ...]
    """Scored."""
    dropped: tuple[int, ...]
    """Given up after too many attempts."""


@dataclass(frozen=True, slots=True)
class Halt:
    """To training: a deterministic run cannot go on."""

    reason: str


Action = (
    GrantLease
    | CancelLease
    | AckRollout
    | AssignScore
    | AckScore
    | HandOver
    | GroupDropped
    | AttemptDiscarded
    | NeedPrompts
    | EvaluationFinished
    | Halt
)
