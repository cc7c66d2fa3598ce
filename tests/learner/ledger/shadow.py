"""The shadow ledger: checks each action by its own account, and that nothing is left undone."""

from collections import Counter

from learner.ledger import events as ev
from learner.ledger.groups import EVALUATION_IDS
from tests.learner.ledger.account import Account, method


class Shadow(Account):
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
