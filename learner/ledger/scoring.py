"""Which samples wait for a reward worker, which are with one, and what becomes of late ones."""

from collections.abc import Iterable, Mapping
from heapq import heappop, heappush

from learner.ledger.admission import LedgerLimits
from learner.ledger.deadlines import Deadlines
from learner.ledger.events import AssignScore
from learner.ledger.groups import Group
from learner.ledger.peers import Peers, Work
from learner.ledger.strictness import Strictness
from protocol.messages import Score


class Scoring:
    """Shares samples out to reward workers, lowest group first.

    A worker is not told that its attempt was discarded or its time ran out: it may go on, and its
    score is acked and ignored, or taken if it is the first.
    """

    def __init__(
        self,
        limits: LedgerLimits,
        run_epoch: int,
        groups: Mapping[int, Group],
        peers: Peers,
        strictness: Strictness,
    ) -> None:
        self._limits = limits
        self._run_epoch = run_epoch
        self._groups = groups
        self._peers = peers
        self._strictness = strictness
        self._waiting: list[tuple[int, int, int]] = []
        """Heap of (group id, attempt, sample); entries that came to nothing are skipped."""
        self._deadlines: Deadlines[Work] = Deadlines(limits.score_seconds)

    def add(self, group: Group, sample: int) -> None:
        """Queues a sample whose rollout has arrived."""
        heappush(self._waiting, (group.group_id, group.attempt, sample))

    def assign(self, now: float) -> list[AssignScore]:
        """Gives waiting samples to workers with room."""
        actions: list[AssignScore] = []
        while self._waiting:
            group_id, attempt, sample = self._waiting[0]
            group = self._groups.get(group_id)
            if group is None or group.attempt != attempt or not group.awaits_score(sample):
                heappop(self._waiting)
                continue
            slot = group.samples[sample]
            worker = self._peers.most_free("reward_worker", avoid=slot.last_worker)
            if worker is None:
                break
            heappop(self._waiting)
            slot.worker = worker.name
            self._peers.give(worker, (group_id, sample))
            self._deadlines.set((group_id, sample), now)
            actions.append(AssignScore(worker.name, group_id, attempt, sample))
        return actions

    def repeats(self, peer: str, group: Group, score: Score) -> bool:
        """Queues a sample again if a deterministic run does not take its score; True if so."""
        if not self._strictness.refuses(score.status):
            return False
        slot = group.samples[score.sample]
        if slot.worker == peer:  # else it came again, or late: somebody has the sample, or will
            slot.last_worker = peer
            self._release(group, score.sample)
            self.add(group, score.sample)
            self._strictness.count_failure(group, score.sample, score.status)
        return True

    def finish(self, group: Group, score: Score) -> None:
        """Keeps the terminal score of a sample, whoever sent it."""
        self._release(group, score.sample)
        group.samples[score.sample].score = score

    def forget(self, group: Group) -> None:
        """Takes back all samples of an attempt that is discarded."""
        for sample in range(len(group.samples)):
            self._release(group, sample)

    def expire(self, now: float) -> list[tuple[Group, str]]:
        """Queues what ran out of time again; returns what it masked, as (group, status)."""
        masked: list[tuple[Group, str]] = []
        for group_id, sample in self._deadlines.pop_expired(now):
            group = self._groups[group_id]
            slot = group.samples[sample]
            slot.score_expiries += 1
            slot.last_worker = slot.worker
            self._release(group, sample)
            if slot.score_expiries < self._limits.max_score_attempts:
                self.add(group, sample)
            else:
                masked += self._mask(group, sample, "reward_timeout")
        return masked

    def worker_lost(self, outstanding: Iterable[Work]) -> list[tuple[Group, str]]:
        """Queues a lost worker's samples again; returns those it masked, as (group, status).

        A worker may die of a sample, so one that was lost with `max_attempts` workers is masked.
        """
        masked: list[tuple[Group, str]] = []
        for group_id, sample in sorted(outstanding):
            group = self._groups[group_id]
            slot = group.samples[sample]
            slot.workers_lost += 1
            self._release(group, sample)
            if slot.workers_lost < self._limits.max_attempts:
                self.add(group, sample)
            else:
                masked += self._mask(group, sample, "reward_worker_lost")
        return masked

    def _release(self, group: Group, sample: int) -> None:
        slot = group.samples[sample]
        if slot.worker:
            self._peers.release(slot.worker, (group.group_id, sample))
            self._deadlines.clear((group.group_id, sample))
            slot.worker = ""

    def _mask(self, group: Group, sample: int, status: str) -> list[tuple[Group, str]]:
        if self._strictness.is_on:
            self._strictness.halt(f"group {group.group_id} sample {sample} is a {status}")
            self.add(group, sample)
            return []
        group.samples[sample].score = Score(
            run_epoch=self._run_epoch,
            group_id=group.group_id,
            attempt=group.attempt,
            sample=sample,
            reward=None,
            rewards=(),
            status=status,
        )
        return [(group, status)]
