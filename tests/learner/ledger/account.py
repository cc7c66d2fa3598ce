"""The second account of every group: what events alone change, kept plainly and slowly."""

import re
from collections import Counter

from learner.ledger import events as ev
from learner.ledger.groups import EVALUATION_IDS
from tests.learner.ledger.shadow_group import ShadowGroup


def method(prefix, message):
    """PromptsAdded -> on_prompts_added"""
    return prefix + re.sub("([A-Z])", r"_\1", type(message).__name__).lower()


class Account:
    """Groups, peers and counts as events leave them, and the answers that events demand."""

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
        self.retired: set[int] = set(snapshot.retired)
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
        sizes = zip(event.group_ids, event.num_samples, strict=True)
        self.evaluation = {group_id: ShadowGroup(size) for group_id, size in sizes}
        self.evaluation_open = True
        self.evaluation_ids = event.group_ids
