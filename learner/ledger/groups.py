"""One prompt's group of samples, and the states that it passes through."""

from dataclasses import dataclass, field
from enum import Enum

from learner.advantages.groups import equal_rewards
from learner.ledger.events import Purpose
from learner.ledger.snapshot import ScoredGroup
from protocol.messages import Rollout, Score

EVALUATION_IDS = 2**40
"""Group ids of evaluations start here; those of training stay below."""


class GroupState(Enum):
    """Where a group is; its value is the name that is counted."""

    READY = "ready"
    LEASED = "leased"
    """With an actor; some rollouts are missing."""
    SCORING = "scoring"
    """All rollouts are in; some scores are missing."""
    SCORED = "scored"
    HANDED_OVER = "handed_over"
    TRAINED = "trained"
    DROPPED = "dropped"


@dataclass(slots=True)
class Sample:
    """One completion of a group: its rollout, then its score."""

    rollout: Rollout | None = None
    score: Score | None = None
    """The first terminal word on it; a reward of None masks the sample."""
    worker: str = ""
    """The reward worker that has it now."""
    last_worker: str = ""
    """The one that had it before and did not answer."""
    score_expiries: int = 0
    workers_lost: int = 0
    failed_scores: int = 0
    """Scores of deterministic runs that were not taken because they may be the machine's."""


@dataclass(slots=True)
class Group:
    """The samples of one prompt, in their current attempt."""

    group_id: int
    purpose: Purpose
    num_samples: int
    row: int = -1
    """Of the data; evaluation groups have none."""
    attempt: int = 1
    """The running attempt; while READY, the next one."""
    state: GroupState = GroupState.READY
    holder: str = ""
    """The actor that was granted this attempt."""
    lease_version: int = -1
    oldest_version: int = -1
    """No token of this attempt is older; exact once all rollouts are in."""
    tokens: int = 0
    """The holder's last word on its progress."""
    samples: list[Sample] = field(default_factory=list)
    rewards_are_equal: bool = False
    """While SCORED: of the valid samples; also if fewer than two are valid."""

    @classmethod
    def restored(cls, scored: ScoredGroup) -> "Group":
        """Returns a group as it was when a checkpoint kept it: scored, and in no batch."""
        group = cls(
            scored.group_id,
            "train",
            len(scored.rollouts),
            row=scored.row,
            attempt=scored.attempt,
            state=GroupState.SCORED,
            holder=scored.actor,
            lease_version=scored.lease_version,
            oldest_version=scored.oldest_version,
            samples=[
                Sample(rollout, score)
                for rollout, score in zip(scored.rollouts, scored.scores, strict=True)
            ],
        )
        group.judge_rewards()
        return group

    def to_keep(self) -> ScoredGroup:
        """Returns what a checkpoint keeps of a scored group."""
        return ScoredGroup(
            group_id=self.group_id,
            row=self.row,
            attempt=self.attempt,
            actor=self.holder,
            lease_version=self.lease_version,
            oldest_version=self.oldest_version,
            rollouts=tuple(s.rollout for s in self.samples if s.rollout is not None),
            scores=tuple(s.score for s in self.samples if s.score is not None),
        )

    def lease(self, peer: str, policy_version: int) -> None:
        """Starts the attempt at an actor that holds `policy_version`."""
        self.holder = peer
        self.lease_version = self.oldest_version = policy_version
        self.samples = [Sample() for _ in range(self.num_samples)]

    def next_attempt(self) -> None:
        """Forgets the attempt and everything that came of it."""
        self.attempt += 1
        self.holder = ""
        self.lease_version = self.oldest_version = -1
        self.tokens = 0
        self.samples = []

    def take(self, rollout: Rollout) -> None:
        """Keeps a rollout that `refusal` has nothing against."""
        self.samples[rollout.sample].rollout = rollout
        if self.all_arrived():
            self.oldest_version = min(
                sample.rollout.policy_versions[0][0]
                for sample in self.samples
                if sample.rollout is not None
            )

    def refusal(self, peer: str, rollout: Rollout, policy_version: int) -> str:
        """Returns why a rollout of this group cannot be taken; empty if it can.

        "duplicate" means that this sample of this attempt was taken before.
        """
        if rollout.attempt != self.attempt:
            return "stale_attempt"
        if not self.holder or peer != self.holder:
            return "not_holder"
        if rollout.sample >= self.num_samples:
            return "unknown_sample"
        if self.samples[rollout.sample].rollout is not None:
            return "duplicate"
        oldest, newest = rollout.policy_versions[0][0], rollout.policy_versions[-1][0]
        if newest > policy_version:
            return "future_version"
        if oldest < self.lease_version:
            return "wrong_version"
        if self.purpose == "evaluation" and newest != self.lease_version:
            return "wrong_version"
        return ""

    def score_refusal(self, score: Score) -> str:
        """Returns why a score of this group cannot be taken; empty if it can."""
        if score.attempt != self.attempt:
            return "stale_attempt"
        if score.sample >= len(self.samples) or self.samples[score.sample].rollout is None:
            return "unknown_sample"
        return "" if self.awaits_score(score.sample) else "duplicate"

    def awaits_score(self, sample: int) -> bool:
        """True if a sample of this attempt has a rollout and no score."""
        return self.samples[sample].rollout is not None and self.samples[sample].score is None

    def all_arrived(self) -> bool:
        """True if every sample has its rollout."""
        return bool(self.samples) and all(s.rollout is not None for s in self.samples)

    def all_scored(self) -> bool:
        """True if every sample has a terminal score, masked ones included."""
        return bool(self.samples) and all(s.score is not None for s in self.samples)

    def rewards(self) -> list[float | None]:
        """Returns each sample's reward; None for one that is masked or not scored."""
        return [s.score.reward if s.score is not None else None for s in self.samples]

    def judge_rewards(self) -> None:
        """Notes whether all rewards are equal; one that was masked is for the learner to see."""
        rewards = self.rewards()
        self.rewards_are_equal = None not in rewards and equal_rewards(rewards)

    def lengths(self) -> tuple[int, ...]:
        """Returns the tokens of each rollout that has arrived."""
        return tuple(len(s.rollout.token_ids) for s in self.samples if s.rollout is not None)
