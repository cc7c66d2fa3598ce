"""The shadow ledger: a second, slow account of every group, kept from events and actions alone.

And the story, for histories by hand of groups with rewards.
"""

import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest

from learner.ledger import events as ev
from learner.ledger.admission import LedgerLimits
from learner.ledger.groups import EVALUATION_IDS
from learner.ledger.ledger import Ledger
from protocol.messages import Rollout, Score


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


def method(prefix, message):
    """PromptsAdded -> on_prompts_added"""
    return prefix + re.sub("([A-Z])", r"_\1", type(message).__name__).lower()


class Shadow:
    def __init__(self, limits, epoch, version, outcomes, snapshot):
        self.limits, self.epoch, self.version = limits, epoch, version
        self.done = dict(outcomes)
        self.attempts = dict(snapshot.attempts)
        self.groups = {}
        self.evaluation = {}
        self.evaluation_open = False
        self.peers = {}
        """name -> [role, capacity, version]"""
        self.counts = Counter(snapshot.counts)
        self.wanted = self.asked = self.ended = False
        self.batch = ()
        self.retired = set(snapshot.retired)
        self.refills_left = limits.max_refill_groups
        self.expected = []
        """What the event must be answered with, before anything else."""
        self.kept = set()
        """Open since the start, and not in the stream yet."""
        for scored in snapshot.scored:
            self.restore(scored)

    def restore(self, scored):
        assert scored.group_id not in self.done
        self.kept.add(scored.group_id)
        self.groups[scored.group_id] = g = ShadowGroup(len(scored.rollouts), scored.attempt)
        g.row, g.holder, g.version = scored.row, scored.actor, scored.lease_version
        g.rollouts = dict(enumerate(scored.rollouts))
        g.scored = {sample: score.reward for sample, score in enumerate(scored.scores)}
        assert g.floor == scored.oldest_version <= self.version

    def find(self, group_id):
        return self.groups.get(group_id) or self.evaluation.get(group_id)

    def held(self, name):
        """What is outstanding at a peer, counted afresh."""
        everything = [*self.groups.values(), *self.evaluation.values()]
        if self.peers[name][0] == "actor":
            mine = [g for g in everything if g.holder == name and g.state == "leased"]
            return sum(g.size - len(g.rollouts) for g in mine)
        return sum(worker == name for g in everything for worker, _ in g.assigned.values())

    def room(self, role, size=1):
        """name -> free capacity, of peers that can take `size` completions more."""
        free = {n: p[1] - self.held(n) for n, p in self.peers.items() if p[0] == role and p[1]}
        return {
            name: room
            for name, room in free.items()
            if room >= size or (room > 0 and not self.held(name))
        }

    def in_state(self, *states):
        return {i: g for i, g in self.groups.items() if g.state in states}

    # What the event itself changes, and the answers that it demands.

    def begin(self, event, now):
        self.now, self.event, self.expected = now, event, []
        self.refused_batch = ()
        """The last one that would have been handed over, but for groups that are given up."""
        getattr(self, method("on", event))(event)

    def on_prompts_added(self, event):
        self.asked = False
        for i, row in zip(event.group_ids, event.rows, strict=True):
            if i in self.kept and i not in self.done:
                self.kept.remove(i)
            elif i in self.done or i in self.groups:
                self.counts["prompts_repeated"] += 1
            elif row in self.retired:
                self.end(i, "dropped/retired")
            else:
                self.groups[i] = ShadowGroup(self.limits.group_size, self.attempts.get(i, 1), row)

    def on_prompts_ended(self, event):
        self.ended = True

    def on_peer_joined(self, event):
        self.peers.setdefault(event.peer, [event.role, 0, -1])

    def on_peer_lost(self, event):
        if event.peer not in self.peers:
            self.counts["unknown_peer"] += 1
            return
        role = self.peers.pop(event.peer)[0]
        for i, g in sorted([*self.groups.items(), *self.evaluation.items()]):
            if role == "actor" and g.holder == event.peer and g.state == "leased":
                self.expect_discard(i, g, "actor_lost")
            for sample, (worker, _) in sorted(g.assigned.items()):
                if worker == event.peer:
                    del g.assigned[sample]
                    g.lost[sample] += 1
                    if g.lost[sample] >= self.limits.max_attempts:
                        g.scored[sample] = None
                        self.counts["masked/reward_worker_lost"] += 1

    def on_capacity_reported(self, event):
        if event.peer not in self.peers:
            self.counts["unknown_peer"] += 1
            return
        version = event.policy_version if event.policy_version <= self.version else -1
        self.peers[event.peer][1:] = [event.capacity, version]

    def on_progress(self, event):
        for i, attempt, tokens in event.leases:
            g = self.find(i)
            if g is None or (g.attempt, g.holder) != (attempt, event.peer):
                self.expected.append(ev.CancelLease(event.peer, i, attempt, "not_held"))
            elif g.state == "leased" and tokens > g.tokens:
                g.tokens, g.deadline = tokens, self.now + self.limits.lease_seconds

    def on_lease_failed(self, event):
        g = self.find(event.group_id)
        if event.run_epoch != self.epoch:
            self.counts["fenced"] += 1
        elif g and (g.attempt, g.holder, g.state) == (event.attempt, event.peer, "leased"):
            self.expect_discard(event.group_id, g, "failed", event.reason)
        else:
            self.counts["rejected/lease_failed"] += 1

    def on_ticked(self, event):
        for g in [*self.groups.values(), *self.evaluation.values()]:
            for sample, (worker, deadline) in list(g.assigned.items()):
                if deadline <= self.now and g.state in ("leased", "scoring"):
                    del g.assigned[sample]
                    g.late[sample] += 1
                    g.late_worker[sample] = worker
                    if g.late[sample] == self.limits.max_score_attempts and not self.expiring(g):
                        g.scored[sample] = None
                        self.counts["masked/reward_timeout"] += 1
        due = [(i, g) for i, g in self.groups.items() if self.expiring(g)]
        due += [(i, g) for i, g in self.evaluation.items() if self.expiring(g)]
        for i, g in sorted(due, key=lambda pair: pair[0]):
            self.expected.append(ev.CancelLease(g.holder, i, g.attempt, "deadline"))
            self.expect_discard(i, g, "deadline")

    def expiring(self, g):
        return g.state == "leased" and g.deadline <= self.now

    def expect_discard(self, group_id, g, reason, detail=""):
        lengths = tuple(len(g.rollouts[s].token_ids) for s in sorted(g.rollouts))
        prefix = "evaluation/" if group_id >= EVALUATION_IDS else ""
        self.counts[f"{prefix}discarded/{reason}"] += 1
        self.expected.append(ev.AttemptDiscarded(group_id, g.attempt, reason, lengths, detail))
        fresh = ShadowGroup(g.size, g.attempt + 1, g.row)
        if fresh.attempt <= self.limits.max_attempts and fresh.row not in self.retired:
            (self.evaluation if prefix else self.groups)[group_id] = fresh
            return
        why = "attempts" if fresh.attempt > self.limits.max_attempts else "retired"
        self.expected.append(ev.GroupDropped(group_id, why))
        if prefix:
            self.counts[f"{prefix}dropped/{why}"] += 1
            del self.evaluation[group_id]
        else:
            self.end(group_id, f"dropped/{why}")

    def end(self, group_id, outcome):
        """A training prompt is done."""
        assert group_id not in self.done, "trained or dropped twice"
        self.done[group_id] = outcome
        self.counts[outcome] += 1
        self.groups.pop(group_id, None)

    def on_rollout_arrived(self, event):
        r, g = event.rollout, self.find(event.rollout.group_id)
        reason = self.refusal(event.peer, r, g)
        self.expected.append(
            ev.AckRollout(
                event.peer, r.group_id, r.attempt, r.sample, reason in ("", "duplicate"), reason
            )
        )
        self.count_answer(reason, "rollouts")
        if g and not reason:
            g.rollouts[r.sample] = r
            g.deadline = self.now + self.limits.lease_seconds

    def refusal(self, peer, r, g):
        versions = [version for version, _ in r.policy_versions]
        for reason, wrong in (
            ("fenced", lambda: r.run_epoch != self.epoch),
            ("unknown_group", lambda: g is None),
            ("stale_attempt", lambda: r.attempt != g.attempt),
            ("not_holder", lambda: peer != g.holder),
            ("unknown_sample", lambda: not 0 <= r.sample < g.size),
            ("duplicate", lambda: r.sample in g.rollouts),
            ("future_version", lambda: max(versions) > self.version),
            ("wrong_version", lambda: min(versions) < g.version),
            (
                "wrong_version",
                lambda: r.group_id >= EVALUATION_IDS and set(versions) != {g.version},
            ),
        ):
            if wrong():
                return reason
        return ""

    def on_score_arrived(self, event):
        s, g = event.score, self.find(event.score.group_id)
        self.expected.append(ev.AckScore(event.peer, s.group_id, s.attempt, s.sample))
        if s.run_epoch != self.epoch:
            self.count_answer("fenced", "scores")
        elif g is None:
            self.count_answer("unknown_group", "scores")
        elif s.attempt != g.attempt:
            self.count_answer("stale_attempt", "scores")
        elif s.sample not in g.rollouts:
            self.count_answer("unknown_sample", "scores")
        elif s.sample in g.scored:
            self.count_answer("duplicate", "scores")
        elif self.limits.deterministic and s.reward is None:
            self.counts[f"scored_again/{s.status}"] += 1
            if g.assigned.get(s.sample, ("",))[0] == event.peer:
                g.late_worker[s.sample] = g.assigned.pop(s.sample)[0]
        else:
            self.count_answer("", "scores")
            if s.reward is None:
                self.counts[f"masked/{s.status}"] += 1
            g.scored[s.sample] = s.reward
            g.assigned.pop(s.sample, None)

    def count_answer(self, reason, taken):
        names = {"": taken, "duplicate": "duplicates", "fenced": "fenced"}
        self.counts[names.get(reason, f"rejected/{reason}")] += 1

    def on_batch_wanted(self, event):
        self.wanted = True

    def on_batch_trained(self, event):
        self.version += 1
        self.retired |= self.easy_rows(self.batch)
        self.end_batch("trained")

    def on_batch_skipped(self, event):
        self.expected += [ev.GroupDropped(i, event.reason) for i in self.batch]
        self.end_batch(f"dropped/{event.reason}")

    def end_batch(self, outcome):
        for i in self.batch:
            self.end(i, outcome)
        self.batch = ()

    def easy_rows(self, group_ids):
        """Rows that retire with these groups."""
        rate, groups = self.limits.no_resampling_pass_rate, [self.groups[i] for i in group_ids]
        passed = {i: [r >= self.limits.pass_reward for r in g.valid] for i, g in enumerate(groups)}
        return {
            groups[i].row
            for i, flags in passed.items()
            if rate is not None and flags and flags.count(True) >= rate * len(flags)
        }

    def on_evaluation_started(self, event):
        self.evaluation = {i: ShadowGroup(event.num_samples) for i in event.group_ids}
        self.evaluation_open = True
        self.evaluation_ids = event.group_ids

    # What the ledger may do, and must.

    def check(self, actions, ledger):
        told = len(self.expected)
        if isinstance(self.event, ev.Ticked):  # leases that expire together do so in any order
            actions[:told] = sorted(actions[:told], key=lambda a: getattr(a, "group_id", -1))
        assert actions[:told] == self.expected
        for action in actions[told:]:
            getattr(self, method("check", action))(action, ledger)
        self.check_nothing_left_undone()
        self.check_counts(ledger)

    def check_grant_lease(self, action, ledger):
        evaluation = action.group_id >= EVALUATION_IDS
        assert evaluation == self.evaluation_open
        assert action.purpose == ("evaluation" if evaluation else "train")
        pool = self.evaluation if evaluation else self.groups
        g = pool[action.group_id]
        assert action.group_id == min(i for i, other in pool.items() if other.state == "ready")
        assert (action.attempt, action.num_samples) == (g.attempt, g.size)
        role, _, version = self.peers[action.peer]
        assert role == "actor"
        assert 0 <= version == action.policy_version <= self.version
        room = self.room("actor", g.size)
        candidates = {name: r for name, r in room.items() if self.admits(self.peers[name][2])}
        assert candidates[action.peer] == max(candidates.values())
        g.holder, g.version = action.peer, version
        g.deadline = self.now + self.limits.lease_seconds
        bound = (self.limits.max_off_policy_steps + 1) * self.limits.groups_per_step
        assert len(self.groups) - len(self.in_state("ready")) <= bound

    def admits(self, version):
        """May an actor with this version be granted the next group?"""
        if version < 0:
            return False
        if self.evaluation_open:
            return version == self.version
        lead, step = self.limits.max_off_policy_steps, self.limits.groups_per_step
        ahead = len(self.groups) - len(self.in_state("ready"))
        return ahead < (lead + 1) * step and self.version + ahead // step - version <= lead

    def check_assign_score(self, action, ledger):
        g, sample = self.find(action.group_id), action.sample
        assert g is not None and action.attempt == g.attempt
        assert sample in g.rollouts and sample not in g.scored and sample not in g.assigned
        room = self.room("reward_worker")
        assert action.peer in room
        assert action.peer != g.late_worker.get(sample) or len(room) == 1
        g.assigned[sample] = (action.peer, self.now + self.limits.score_seconds)

    def refillable(self, group_id):
        """Must this group be given up, if nothing is handed over?"""
        line = sorted(
            (g.floor if g.holder else self.version, i, g.dull or g.state != "scored")
            for i, g in self.groups.items()
            if not g.in_batch
        )
        may_come_to_it = [i for _, i, counts in line if counts]
        return group_id in may_come_to_it[: self.refills_left] and self.groups[group_id].dull

    def check_group_dropped(self, action, ledger):
        g = self.groups[action.group_id]
        if action.reason == "retired":
            assert g.state == "ready" and g.row in self.retired
            self.end(action.group_id, "dropped/retired")
            return
        assert action.reason == "zero_advantage"
        assert self.refills_left and g.dull
        if not self.refillable(action.group_id):
            self.refused_batch = self.next_batch() or self.refused_batch
            rest = [i for i in self.refused_batch if i in self.groups and self.groups[i].dull]
            assert rest[0] == action.group_id
        self.refills_left -= 1
        self.retired |= self.easy_rows([action.group_id])
        self.end(action.group_id, "dropped/zero_advantage")

    def next_batch(self):
        """The batch that must be handed over now, or None."""
        step, lead = self.limits.groups_per_step, self.limits.max_off_policy_steps
        if not self.wanted or self.batch or self.evaluation_open:
            return None
        scored = sorted((g.floor, i) for i, g in self.in_state("scored").items())
        others = [g.floor for g in self.in_state("leased", "scoring").values()]
        final = self.ended and len(scored) == len(self.groups)
        if len(scored) < step and not final:
            return None
        left = [floor for floor, _ in scored[step:]] + others
        for batches in range(lead + 1):
            # Those that may only be trained in the next `batches` batches must fit into them.
            urgent = sum(floor + lead - self.version <= batches for floor in left)
            if urgent > batches * step:
                return None
        return tuple(i for _, i in scored[:step])

    def check_hand_over(self, action, ledger):
        assert action.group_ids == self.next_batch()
        assert not self.refills_left or not any(self.groups[i].dull for i in action.group_ids)
        for i in action.group_ids:
            staleness = self.version - self.groups[i].floor
            assert 0 <= staleness <= self.limits.max_off_policy_steps
            taken = ledger.group(i)
            assert [s.rollout for s in taken.samples] == [
                self.groups[i].rollouts[n] for n in range(self.groups[i].size)
            ]
            assert all(s.score is not None for s in taken.samples)
            self.groups[i].in_batch = True
        self.batch, self.wanted = action.group_ids, False
        self.refills_left = self.limits.max_refill_groups
        self.at_hand_over = dict(self.done), set(self.retired)
        snapshot = action.snapshot
        self.check_kept(snapshot.scored)
        assert snapshot.retired == tuple(sorted(self.retired | self.easy_rows(self.batch)))
        done = {*self.done, *action.group_ids}
        opened = {i: g.attempt for i, g in self.groups.items() if i not in done}
        assert all(i >= snapshot.watermark and i not in snapshot.done for i in opened)
        assert all(i < snapshot.watermark or i in snapshot.done for i in done)
        later = {i: a for i, a in self.attempts.items() if i not in done | opened.keys()}
        assert dict(snapshot.attempts) == later | {i: a for i, a in opened.items() if a > 1}

    def check_kept(self, scored):
        """The snapshot has every group that is scored and left behind, whole."""
        left = self.in_state("scored")
        assert [s.group_id for s in scored] == sorted(left)
        for s, g in ((s, left[s.group_id]) for s in scored):
            found = (s.row, s.attempt, s.actor, s.lease_version, s.oldest_version)
            assert found == (g.row, g.attempt, g.holder, g.version, g.floor)
            assert list(s.rollouts) == [g.rollouts[n] for n in range(g.size)]
            assert [score.reward for score in s.scores] == [g.scored[n] for n in range(g.size)]

    def check_evaluation_finished(self, action, ledger):
        assert all(g.state == "scored" for g in self.evaluation.values())
        assert action.group_ids == tuple(sorted(self.evaluation))
        assert {*action.dropped} == {*self.evaluation_ids} - {*self.evaluation}
        self.evaluation_open = False

    def check_need_prompts(self, action, ledger):
        assert self.should_ask() and action.count > 0
        self.asked = True

    def should_ask(self):
        few = len(self.in_state("ready")) < self.limits.prompts_low_water
        return few and not self.asked and not self.ended

    def check_nothing_left_undone(self):
        pool = self.evaluation if self.evaluation_open else self.groups
        ready = [i for i, g in pool.items() if g.state == "ready"]
        if ready:
            room = self.room("actor", pool[min(ready)].size)
            assert not any(self.admits(self.peers[name][2]) for name in room)
        waiting = any(
            len(g.rollouts) > len(g.scored) + len(g.assigned)
            for g in [*self.groups.values(), *self.evaluation.values()]
        )
        assert not waiting or not self.room("reward_worker")
        batch = self.next_batch()
        assert batch is None
        assert not any(self.refillable(i) for i, g in self.groups.items() if g.dull)
        assert not any(g.row in self.retired for g in self.in_state("ready").values())
        assert not self.should_ask()
        if self.evaluation_open:
            assert any(g.state != "scored" for g in self.evaluation.values())

    def check_counts(self, ledger):
        counts = ledger.counts()
        states = Counter(g.state for g in self.groups.values())
        for state in ("ready", "leased", "scoring", "scored", "handed_over"):
            assert counts.pop(state) == states[state], state
        assert +Counter(counts) == +self.counts
        assert counts["trained"] + sum(
            n for name, n in counts.items() if name.startswith("dropped/")
        ) == len(self.done)
        assert ledger.policy_version == self.version


@pytest.fixture
def shadow_type():
    return Shadow


class Story:
    """A ledger whose one actor and one worker hold anything; short words for what happens."""

    def __init__(self, snapshot=None, version=0, **limits):
        defaults = {"groups_per_step": 2, "group_size": 2, "max_off_policy_steps": 0}
        self.limits = LedgerLimits(**(defaults | {"prompts_low_water": 1} | limits))
        self.ledger = Ledger(self.limits, 1, version, snapshot)
        self(ev.PeerJoined("a", "actor"))
        self(ev.PeerJoined("w", "reward_worker"))
        for peer in ("a", "w"):
            self(ev.CapacityReported(peer, 999, version))

    def __call__(self, event):
        return self.ledger.apply(event, 0.0)

    def prompts(self, *group_ids, num_rows=1000):
        """Prompts of which one every `num_rows` is of the same row; returns what is granted."""
        return self.granted(self.prompts_given(*group_ids, num_rows=num_rows))

    def prompts_given(self, *group_ids, num_rows=1000):
        """The same; returns all that comes of them."""
        rows = tuple(group_id % num_rows for group_id in group_ids)
        return self(ev.PromptsAdded(group_ids, rows))

    def rollout(self, group_id, sample=0):
        """The event of one rollout's arrival."""
        group = self.ledger.group(group_id)
        rollout = Rollout.model_construct(
            run_epoch=1,
            group_id=group_id,
            attempt=group.attempt,
            sample=sample,
            token_ids=np.zeros(2, np.int32),
            policy_versions=((group.lease_version, 2),),
        )
        return ev.RolloutArrived("a", rollout)

    def finish(self, group_id, *rewards):
        """All rollouts and scores of a group; returns what came of the last score."""
        group, actions = self.ledger.group(group_id), []
        assert group is not None and group.holder
        facts = {"run_epoch": 1, "group_id": group_id, "attempt": group.attempt}
        version = group.lease_version
        for sample, reward in enumerate(rewards):
            rollout = Rollout.model_construct(
                **facts,
                sample=sample,
                token_ids=np.zeros(2, np.int32),
                policy_versions=((version, 2),),
            )
            score = Score.model_construct(
                **facts,
                sample=sample,
                reward=reward,
                rewards=(),
                status="ok" if reward is not None else "reward_error",
            )
            self(ev.RolloutArrived("a", rollout))
            actions = self(ev.ScoreArrived("w", score))
        return actions

    def want(self):
        return self(ev.BatchWanted())

    def train(self):
        """Trains the batch in hand, and the actor fetches what comes of it."""
        actions = self(ev.BatchTrained())
        return actions + self(ev.CapacityReported("a", 999, self.ledger.policy_version))

    def count(self, name):
        return self.ledger.counts().get(name, 0)

    def state(self, group_id):
        group = self.ledger.group(group_id)
        return group and group.state.value

    @staticmethod
    def granted(actions):
        return [action.group_id for action in actions if isinstance(action, ev.GrantLease)]

    @staticmethod
    def dropped(actions):
        return [(a.group_id, a.reason) for a in actions if isinstance(a, ev.GroupDropped)]

    @staticmethod
    def handed_over(actions):
        return [action.group_ids for action in actions if isinstance(action, ev.HandOver)]

    @staticmethod
    def snapshot(actions):
        (hand_over,) = [action for action in actions if isinstance(action, ev.HandOver)]
        return hand_over.snapshot


@pytest.fixture
def story():
    return Story
