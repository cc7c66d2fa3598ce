"""Rollouts and scores that arrive: taken or refused, counted, and answered."""

from collections import Counter
from collections.abc import Iterable

from learner.ledger.admission import LedgerLimits
from learner.ledger.evaluations import Evaluations
from learner.ledger.events import AckRollout, AckScore
from learner.ledger.group_table import GroupTable
from learner.ledger.groups import Group, GroupState
from learner.ledger.leases import Leases
from learner.ledger.scoring import Scoring
from protocol.messages import Rollout, Score


class Arrivals:
    """Takes what fits the current attempt of its group, and moves the group on.

    Args:
        limits: The limits of the run.
        run_epoch: What arrives from another one is fenced off.
        table: All groups.
        leases: Those that wait for rollouts.
        scoring: Samples that wait for scores.
        evaluations: Told of every evaluation group that is scored.
        counts: The ledger's; changed here.
    """

    def __init__(
        self,
        limits: LedgerLimits,
        run_epoch: int,
        table: GroupTable,
        leases: Leases,
        scoring: Scoring,
        evaluations: Evaluations,
        counts: Counter[str],
    ) -> None:
        self._limits = limits
        self._run_epoch = run_epoch
        self._table = table
        self._leases = leases
        self._scoring = scoring
        self._evaluations = evaluations
        self._counts = counts

    def take_rollout(
        self, peer: str, rollout: Rollout, policy_version: int, now: float
    ) -> AckRollout:
        """Takes or refuses a rollout; returns the answer to whoever sent it."""
        group = self._table.groups.get(rollout.group_id)
        if rollout.run_epoch != self._run_epoch:
            reason = "fenced"
        elif group is None:
            reason = "unknown_group"
        elif len(rollout.token_ids) > self._limits.max_completion_tokens:
            reason = "too_long"
        else:
            reason = group.refusal(peer, rollout, policy_version)
        if group is None or reason:
            self._count_refused(reason)
        else:
            self._keep_rollout(group, rollout, now)
        return AckRollout(
            peer,
            rollout.group_id,
            rollout.attempt,
            rollout.sample,
            reason in ("", "duplicate"),
            reason,
        )

    def take_score(self, peer: str, score: Score) -> AckScore:
        """Takes or refuses a score; returns the answer to whoever sent it."""
        group = self._table.groups.get(score.group_id)
        if score.run_epoch != self._run_epoch:
            reason = "fenced"
        else:
            reason = "unknown_group" if group is None else group.score_refusal(score)
        if group is None or reason:
            self._count_refused(reason)
        elif self._scoring.repeats(peer, group, score):
            self._counts[f"scored_again/{score.status}"] += 1
        else:
            self._counts["scores"] += 1
            if score.reward is None:
                self._counts[f"masked/{score.status}"] += 1
            self._scoring.finish(group, score)
            self._finish_if_scored(group)
        return AckScore(peer, score.group_id, score.attempt, score.sample)

    def count_masked(self, masked: Iterable[tuple[Group, str]]) -> None:
        """Counts samples that were masked without a score, as (group, status)."""
        for group, status in masked:
            self._counts[f"masked/{status}"] += 1
            self._finish_if_scored(group)

    def _keep_rollout(self, group: Group, rollout: Rollout, now: float) -> None:
        self._counts["rollouts"] += 1
        group.take(rollout)
        self._scoring.add(group, rollout.sample)
        if group.all_arrived():
            self._leases.end(group)
            self._table.move(group, GroupState.SCORING)
        else:
            self._leases.delivered(group, now)

    def _count_refused(self, reason: str) -> None:
        names = {"duplicate": "duplicates", "fenced": "fenced"}
        self._counts[names.get(reason, f"rejected/{reason}")] += 1

    def _finish_if_scored(self, group: Group) -> None:
        if group.state is GroupState.SCORING and group.all_scored():
            group.judge_rewards()
            self._table.move(group, GroupState.SCORED)
            self._evaluations.settle(group, scored=True)
