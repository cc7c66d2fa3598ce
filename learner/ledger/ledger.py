"""The ledger: what became of every prompt. A pure state machine: events in, actions out.

    ready -> leased -> scoring -> scored -> handed over -> trained | dropped(reason)

A discarded attempt leads back to ready. Nothing that a peer says is trusted to come once, in order
or at all: capacity is absolute, what arrives is checked against the current attempt, and whatever
stays away has a deadline. Every prompt is trained or dropped exactly once. The ledger knows neither
socket, clock nor thread; `now` is any clock that does not go back, in seconds.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Set
from typing import Any

from learner.ledger import events as ev
from learner.ledger.admission import (
    LedgerLimits,
    choose_batch,
    oldest_admissible_version,
    stale_groups,
    training_order,
)
from learner.ledger.arrivals import Arrivals
from learner.ledger.endings import Endings
from learner.ledger.evaluations import Evaluations
from learner.ledger.group_table import GroupTable
from learner.ledger.groups import EVALUATION_IDS, Group, GroupState
from learner.ledger.leases import Leases
from learner.ledger.peers import Peers
from learner.ledger.refills import Refills
from learner.ledger.retirement import Retirement
from learner.ledger.scoring import Scoring
from learner.ledger.snapshot import Snapshot
from learner.ledger.strictness import Strictness

MAX_CANCELS = 256
"""Answers to one progress report; what is left over is answered at the next."""


class Ledger:
    """The single truth about every group of one run epoch."""

    def __init__(
        self,
        limits: LedgerLimits,
        run_epoch: int,
        policy_version: int,
        done: Snapshot | None = None,
    ) -> None:
        snapshot = done or Snapshot()
        self.limits = limits
        self.run_epoch = run_epoch
        self.policy_version = policy_version
        self._table = GroupTable(snapshot)
        self._peers = Peers()
        self._leases = Leases(limits, self._table, self._peers)
        self._strictness = Strictness(limits)
        self._scoring = Scoring(
            limits, run_epoch, self._table.groups, self._peers, self._strictness
        )
        self._counts: Counter[str] = Counter(snapshot.counts)
        self._evaluations = Evaluations(self._table)
        self._arrivals = Arrivals(
            limits,
            run_epoch,
            self._table,
            self._leases,
            self._scoring,
            self._evaluations,
            self._counts,
        )
        self._refills = Refills(limits.max_refill_groups)
        self._retirement = Retirement(limits, snapshot)
        self._endings = Endings(
            limits=limits,
            table=self._table,
            leases=self._leases,
            scoring=self._scoring,
            evaluations=self._evaluations,
            retirement=self._retirement,
            strictness=self._strictness,
            counts=self._counts,
        )
        self._batch: list[Group] = []
        self._batch_wanted = False
        self._prompts_asked = False
        self._prompts_ended = False
        self._actions: list[ev.Action] = []
        self._handlers = self._handlers_by_event()

    def _handlers_by_event(self) -> dict[type, Callable[[Any, float], None]]:
        return {
            ev.PromptsAdded: self._on_prompts_added,
            ev.PromptsEnded: self._on_prompts_ended,
            ev.PeerJoined: self._on_peer_joined,
            ev.PeerLost: self._on_peer_lost,
            ev.CapacityReported: self._on_capacity,
            ev.Progress: self._on_progress,
            ev.LeaseFailed: self._on_lease_failed,
            ev.RolloutArrived: self._on_rollout,
            ev.ScoreArrived: self._on_score,
            ev.BatchWanted: self._on_batch_wanted,
            ev.BatchTrained: self._on_batch_trained,
            ev.BatchSkipped: self._on_batch_skipped,
            ev.EvaluationStarted: self._on_evaluation_started,
            ev.Ticked: self._on_tick,
        }

    def apply(self, event: ev.Event, now: float) -> list[ev.Action]:
        """Takes one event and returns what is to be done about it, in order.

        Nothing that a peer can say raises; the training thread's and the data stream's mistakes
        are AssertionErrors.
        """
        self._actions = actions = []
        self._handlers[type(event)](event, now)
        if finished := self._evaluations.pop_finished():
            self._table.changed = True
            actions.append(finished)
        while self._table.changed:
            self._table.changed = False
            self._refill()
            self._hand_over()
        self._grant(now)
        actions += self._scoring.assign(now)
        self._ask_for_prompts()
        actions += self._strictness.pop_halts()
        return actions

    def group(self, group_id: int) -> Group | None:
        """Returns an open group; its payload stays until it is trained or dropped.

        The groups of an evaluation stay until the next evaluation starts.
        """
        return self._table.groups.get(group_id)

    def counts(self) -> dict[str, int]:
        """Returns training groups by state, and what happened since the run began, by name."""
        happened = dict.fromkeys(("trained", "rollouts", "scores", "duplicates", "fenced"), 0)
        return {**happened, **self._counts, **self._table.counts()}

    @property
    def retired_rows(self) -> Set[int]:
        """Rows of the data whose prompts are not issued any more."""
        return self._retirement.rows

    # Data.

    def _on_prompts_added(self, event: ev.PromptsAdded, now: float) -> None:
        assert not self._prompts_ended, "prompts after the end of prompts"
        self._prompts_asked = False
        for group_id, row in zip(event.group_ids, event.rows, strict=True):
            assert 0 <= group_id < EVALUATION_IDS, f"group id {group_id} is no training id"
            retired = row in self._retirement.rows and group_id not in self._table.groups
            if not self._table.add_prompt(group_id, self.limits.group_size, row, retired):
                self._counts["prompts_repeated"] += 1
            elif retired:
                self._counts["dropped/retired"] += 1

    def _on_prompts_ended(self, event: ev.PromptsEnded, now: float) -> None:
        self._prompts_ended = True
        self._table.changed = True

    def _ask_for_prompts(self) -> None:
        ready = len(self._table.of(GroupState.READY))
        if self._prompts_asked or self._prompts_ended or ready >= self.limits.prompts_low_water:
            return
        self._prompts_asked = True
        self._actions.append(ev.NeedPrompts(self.limits.prompts_low_water))

    # Peers and leases.

    def _on_peer_joined(self, event: ev.PeerJoined, now: float) -> None:
        known = self._peers.get(event.peer)
        if known is not None and known.role == event.role:
            return
        if known is not None:
            self._lose(event.peer)
        self._peers.join(event.peer, event.role)

    def _on_peer_lost(self, event: ev.PeerLost, now: float) -> None:
        self._lose(event.peer)

    def _lose(self, name: str) -> None:
        peer = self._peers.remove(name)
        if peer is None:
            self._counts["unknown_peer"] += 1
        elif peer.role == "actor":
            for group_id, _ in sorted(peer.outstanding):
                self._discard(self._table.groups[group_id], "actor_lost")
        else:
            self._arrivals.count_masked(self._scoring.worker_lost(peer.outstanding))

    def _on_capacity(self, event: ev.CapacityReported, now: float) -> None:
        peer = self._peers.get(event.peer)
        if peer is None:
            self._counts["unknown_peer"] += 1
            return
        peer.capacity = event.capacity
        # A version above ours is of a lineage that a crash ended; it must not become valid later.
        known = event.policy_version <= self.policy_version
        peer.policy_version = event.policy_version if known else -1

    def _grant(self, now: float) -> None:
        purpose = "evaluation" if self._evaluations.is_open else "train"
        while lease := self._leases.grant(purpose, self._oldest_admissible_version(), now):
            self._actions.append(lease)

    def _oldest_admissible_version(self) -> int:
        if self._evaluations.is_open:
            return self.policy_version  # nothing trains meanwhile, so it is the evaluation's
        return oldest_admissible_version(self.limits, self.policy_version, self._table.in_flight())

    def _on_progress(self, event: ev.Progress, now: float) -> None:
        not_held: list[ev.Action] = []
        for group_id, attempt, tokens in event.leases:
            if group := self._leases.held(event.peer, group_id, attempt):
                self._leases.progress(group, tokens, now)
            else:
                # The cancel may have been lost, or the actor was taken for dead.
                not_held.append(ev.CancelLease(event.peer, group_id, attempt, "not_held"))
        self._actions += not_held[:MAX_CANCELS]

    def _on_lease_failed(self, event: ev.LeaseFailed, now: float) -> None:
        group = self._leases.held(event.peer, event.group_id, event.attempt)
        if event.run_epoch != self.run_epoch:
            self._counts["fenced"] += 1
        elif group is None or group.state is not GroupState.LEASED:
            self._counts["rejected/lease_failed"] += 1
        else:
            self._discard(group, "failed", event.reason)

    def _on_tick(self, event: ev.Ticked, now: float) -> None:
        for group in self._leases.pop_expired(now):
            cancel = ev.CancelLease(group.holder, group.group_id, group.attempt, "deadline")
            self._actions.append(cancel)
            self._discard(group, "deadline")
        self._arrivals.count_masked(self._scoring.expire(now))

    # Rollouts and scores.

    def _on_rollout(self, event: ev.RolloutArrived, now: float) -> None:
        self._actions.append(
            self._arrivals.take_rollout(event.peer, event.rollout, self.policy_version, now)
        )

    def _on_score(self, event: ev.ScoreArrived, now: float) -> None:
        self._actions.append(self._arrivals.take_score(event.peer, event.score))

    # Training.

    def _on_batch_wanted(self, event: ev.BatchWanted, now: float) -> None:
        self._batch_wanted = True
        self._table.changed = True

    def _refill(self) -> None:
        if not self._refills.left:
            return
        line = training_order(self._table.to_be_trained(), self.policy_version)
        self._give_up(self._refills.take(line))

    def _give_up(self, groups: Iterable[Group]) -> None:
        for group in groups:
            self._drop(group, "zero_advantage")
            self._retire([group])

    def _retire(self, groups: Iterable[Group]) -> None:
        if rows := self._retirement.add(groups):
            for group in list(self._table.of(GroupState.READY).values()):
                if group.row in rows:
                    self._drop(group, "retired")

    def _hand_over(self) -> None:
        if not self._batch_wanted or self._batch or self._evaluations.is_open:
            return
        scored = self._table.of(GroupState.SCORED)
        for group in stale_groups(scored.values(), self.policy_version, self.limits):
            self._discard(group, "stale")
        batch = self._next_batch()
        while batch and (equal := self._refills.take(batch)):
            self._give_up(equal)
            batch = self._next_batch()
        if batch is None:
            return
        for group in batch:
            self._table.move(group, GroupState.HANDED_OVER)
        self._batch = batch
        self._batch_wanted = False
        self._refills.begin()
        self._actions.append(ev.HandOver(tuple(g.group_id for g in batch), self._snapshot()))

    def _next_batch(self) -> list[Group] | None:
        unfinished = self._table.unfinished()
        final = self._prompts_ended and not unfinished and not self._table.of(GroupState.READY)
        scored = self._table.of(GroupState.SCORED).values()
        return choose_batch(scored, unfinished, self.policy_version, self.limits, final)

    def _snapshot(self) -> Snapshot:
        counts = self._counts + Counter(trained=len(self._batch))
        snapshot = self._table.snapshot((group.group_id for group in self._batch), counts)
        return self._retirement.put_into(snapshot, self._batch)

    def _on_batch_trained(self, event: ev.BatchTrained, now: float) -> None:
        assert self._batch, "a batch was trained that was not handed over"
        self.policy_version += 1
        self._counts["trained"] += len(self._batch)
        self._retire(self._batch)
        for group in self._batch:
            self._table.finish(group, GroupState.TRAINED)
        self._batch = []

    def _on_batch_skipped(self, event: ev.BatchSkipped, now: float) -> None:
        assert self._batch, "a batch was skipped that was not handed over"
        for group in self._batch:
            self._drop(group, event.reason)
        self._batch = []

    # Evaluation.

    def _on_evaluation_started(self, event: ev.EvaluationStarted, now: float) -> None:
        assert not self._batch, "an evaluation starts between batches, or its version would pass"
        self._evaluations.start(event.group_ids, event.num_samples)

    def _discard(self, group: Group, reason: str, detail: str = "") -> None:
        self._actions += self._endings.discard(group, reason, detail)

    def _drop(self, group: Group, reason: str) -> None:
        self._actions.append(self._endings.drop(group, reason))
