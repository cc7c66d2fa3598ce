"""Seeded random schedules: lossy network, crashing peers, a crashing learner, and a shadow ledger.

The shadow (shadow.py) derives from events and actions alone what the ledger must do, checks every
action, and that nothing is left undone. LEDGER_EVENTS sets the number of events of each seed.
"""

import json
import os
import random
from bisect import bisect_left
from dataclasses import replace
from heapq import heappop, heappush
from itertools import count

from learner.ledger import events as ev
from learner.ledger.admission import LedgerLimits
from learner.ledger.groups import EVALUATION_IDS
from learner.ledger.ledger import Ledger
from learner.ledger.snapshot import Snapshot
from tests.learner.ledger.fake_peers import FakePeer, make_rollout, make_score

EVENTS_PER_SEED = int(os.environ.get("LEDGER_EVENTS", "3000"))
LAST_EVENTS = 30_000
"""Once faults stop, everything ends within as many."""


class World:
    def __init__(self, seed, shadow_type, **limits):
        self.rng = rng = random.Random(seed)
        self.shadow_type = shadow_type
        self.limits = LedgerLimits(
            groups_per_step=rng.randint(1, 4),
            group_size=rng.randint(1, 3),
            max_off_policy_steps=seed % 4,
            max_attempts=rng.choice([2, 4, 10]),
            lease_seconds=8.0,
            score_seconds=6.0,
            max_score_attempts=rng.randint(1, 3),
            prompts_low_water=rng.randint(1, 6),
            max_refill_groups=rng.choice([0, 1, 3, 20]),
            no_resampling_pass_rate=rng.choice([None, 0.5, 1.0]),
        )
        self.limits = replace(self.limits, **limits)
        self.num_rows = rng.choice([7, 60, 1000])
        """Of the data; every fifth is never passed and every fifth always."""
        self.fault = rng.choice([0.0, 0.02, 0.1])
        self.train_seconds = 2.0
        self.faulty = True
        self.now = 0.0
        self.todo = []
        self.turn = count()
        self.num_events = 0
        self.names = count()
        self.stream = []
        self.stream_ended = False
        self.evaluation_ids = count(EVALUATION_IDS)
        self.finished = False
        self.epoch = 0
        self.checkpoint = (Snapshot(), 0, {}, set())
        self.batches = {}
        """policy version -> the groups that it resulted from, in the last lineage"""
        self.peers = {}
        self.start_learner()
        for role in ["actor"] * rng.randint(1, 5) + ["reward_worker"] * rng.randint(1, 4):
            self.start_peer(role)
        self.later(1.0, self.tick)
        self.later(5.0, self.trouble)

    def chance(self, factor=1.0):
        return self.faulty and self.rng.random() < self.fault * factor

    def later(self, seconds, call, *args):
        heappush(self.todo, (self.now + seconds, next(self.turn), call, args))

    def run(self):
        while not self.finished:
            self.now, _, call, args = heappop(self.todo)
            call(*args)
            if self.faulty and self.num_events > EVENTS_PER_SEED:
                self.faulty = False
            assert self.num_events < EVENTS_PER_SEED + LAST_EVENTS, "no progress"

    def apply(self, event):
        self.num_events += 1
        self.shadow.begin(event, self.now)
        actions = self.ledger.apply(event, self.now)
        self.shadow.check(list(actions), self.ledger)
        for action in actions:
            self.act(action)
        return actions

    def to_ledger(self, event):
        """A peer's message over the network: lost, doubled, late, out of order."""
        if self.chance():
            return
        for _ in range(2 if self.chance() else 1):
            self.later(self.rng.expovariate(4.0), self.apply, event)

    def act(self, action):
        epoch = self.epoch
        if isinstance(action, ev.HandOver):
            kept = self.shadow.at_hand_over
            self.later(self.rng.uniform(0, self.train_seconds), self.train, epoch, action, *kept)
        elif isinstance(action, ev.NeedPrompts):
            self.later(self.rng.uniform(0, 1), self.add_prompts, epoch, action.count)
        elif isinstance(action, ev.EvaluationFinished):
            self.later(0.1, self.want_batch, epoch)
        elif hasattr(action, "peer") and not self.chance():
            self.later(self.rng.expovariate(4.0), self.deliver, epoch, action)

    # The learner's side.

    def start_learner(self):
        snapshot, version, outcomes, retired = self.checkpoint
        assert set(snapshot.retired) == retired
        self.epoch += 1
        self.ledger = Ledger(self.limits, self.epoch, version, snapshot)
        self.shadow = self.shadow_type(self.limits, self.epoch, version, outcomes, snapshot)
        self.position = next(
            (i for i, prompt in enumerate(self.stream) if prompt >= snapshot.watermark),
            len(self.stream),
        )
        for peer in self.peers.values():
            self.later(self.rng.uniform(0, 5), self.join, peer)
        self.later(0.5, self.want_batch, self.epoch)

    def tick(self):
        self.apply(ev.Ticked())
        self.later(1.0, self.tick)

    def add_prompts(self, epoch, number):
        if epoch != self.epoch:
            return
        if not self.faulty:
            self.stream_ended = True
        retired, first = self.ledger.retired_rows, self.position
        all_retired = len(retired) == self.num_rows
        while number and not (all_retired and self.row_at(self.position) == 0):
            if self.position == len(self.stream):
                if self.stream_ended:
                    break
                last = self.stream[-1] if self.stream else -1
                self.stream.append(last + self.rng.choice([1, 1, 1, 3]))
            number -= self.row_at(self.position) not in retired
            self.position += 1
        added = tuple(self.stream[first : self.position])
        rows = tuple(map(self.row_at, range(first, self.position)))
        self.apply(ev.PromptsAdded(added, rows) if added else ev.PromptsEnded())

    def row_at(self, position):
        return position % self.num_rows

    def want_batch(self, epoch):
        if epoch == self.epoch:
            self.apply(ev.BatchWanted())

    def train(self, epoch, hand_over, outcomes, retired):
        if epoch != self.epoch:
            return
        if not hand_over.group_ids:
            self.finished = True
            return
        early = self.rng.random() < 0.3
        if early:
            self.apply(ev.BatchWanted())
        snapshot = hand_over.snapshot
        skipped = not self.limits.deterministic and self.chance(2.0)
        if skipped:
            snapshot = snapshot.with_batch_dropped("non_finite")
        else:
            retired |= self.shadow.easy_rows(hand_over.group_ids)
        self.apply(ev.BatchSkipped("non_finite") if skipped else ev.BatchTrained())
        outcome = "dropped/non_finite" if skipped else "trained"
        self.batches[self.ledger.policy_version] = hand_over.group_ids
        outcomes = outcomes | dict.fromkeys(hand_over.group_ids, outcome)
        if self.rng.random() < 0.5:
            read = Snapshot.from_json(json.loads(json.dumps(snapshot.to_json())))
            assert read == replace(snapshot, scored=())
            restored = replace(read, scored=snapshot.scored)
            self.checkpoint = (restored, self.ledger.policy_version, outcomes, retired)
        for peer in self.peers.values():
            self.later(self.rng.expovariate(0.7), self.fetch, peer)
        if not early and self.rng.random() < 0.1:
            ids = tuple(next(self.evaluation_ids) for _ in range(self.rng.randint(0, 4)))
            sizes = tuple(self.rng.randint(1, 3) for _ in ids)
            self.apply(ev.EvaluationStarted(ids, sizes))
        elif not early:
            self.later(0.1, self.want_batch, epoch)

    # The peers' side.

    def start_peer(self, role):
        peer = FakePeer(f"{role}-{next(self.names)}", role, self.rng.randint(1, 4), self.epoch)
        self.peers[peer.name] = peer
        self.later(self.rng.uniform(0, 3), self.join, peer)
        self.later(self.rng.uniform(3, 5), self.heartbeat, peer)

    def join(self, peer):
        if not peer.alive:
            return
        if peer.epoch != self.epoch:
            peer.epoch, peer.version = self.epoch, -1
            peer.leases.clear()
            if self.rng.random() < 0.5:
                peer.unacked.clear()  # the others are still sent, and fenced off
        self.apply(ev.PeerJoined(peer.name, peer.role))
        self.later(self.rng.uniform(0, 2), self.fetch, peer)

    def fetch(self, peer):
        if peer.alive and peer.role == "actor" and peer.epoch == self.epoch:
            peer.version = self.ledger.policy_version
            self.to_ledger(ev.CapacityReported(peer.name, peer.capacity, peer.version))

    def heartbeat(self, peer):
        if not peer.alive:
            return
        self.to_ledger(ev.CapacityReported(peer.name, peer.capacity, peer.version))
        if peer.leases and not peer.hung:
            for lease in peer.leases.values():
                lease[1] += 1
            progress = tuple((*key, lease[1]) for key, lease in peer.leases.items())
            self.to_ledger(ev.Progress(peer.name, progress))
        for event in peer.unacked.values():
            self.to_ledger(event)
        if self.chance(0.5):
            peer.hung = True
        elif peer.hung and (not self.faulty or self.rng.random() < 0.1):
            peer.hung = False
        self.later(2.0, self.heartbeat, peer)

    def deliver(self, epoch, action):
        peer = self.peers.get(action.peer)
        if peer is None or not peer.alive or peer.epoch != epoch:
            return
        if isinstance(action, ev.GrantLease):
            self.generate(peer, action)
        elif isinstance(action, ev.CancelLease):
            peer.leases.pop((action.group_id, action.attempt), None)
        elif isinstance(action, ev.AssignScore):
            if not self.chance():
                self.later(self.rng.expovariate(0.7), self.score, epoch, peer, action)
        else:
            peer.unacked.pop((action.group_id, action.attempt, action.sample), None)

    def generate(self, peer, grant):
        key = (grant.group_id, grant.attempt)
        if key in peer.leases:
            return
        if peer.version < grant.policy_version:  # its report came before it lost its weights
            self.to_ledger(ev.LeaseFailed(peer.name, peer.epoch, *key, "version not held"))
            return
        peer.leases[key] = [peer.version, 0, grant.num_samples]
        for sample in range(grant.num_samples):
            self.later(self.rng.expovariate(0.4), self.complete, peer, grant, sample)

    def complete(self, peer, grant, sample):
        key = (grant.group_id, grant.attempt)
        lease = peer.leases.get(key)
        if lease is None or not peer.alive:
            return
        if peer.hung:
            self.later(1.0, self.complete, peer, grant, sample)
            return
        if self.chance(0.5):
            del peer.leases[key]
            self.to_ledger(ev.LeaseFailed(peer.name, peer.epoch, *key, "too long"))
            return
        first, last = self.rng.choice([lease[0], peer.version]), peer.version
        runs = ((first, 2), (last, 3)) if first < last else ((last, self.rng.randint(1, 5)),)
        rollout = make_rollout(peer.epoch, *key, sample, runs)
        peer.unacked[(*key, sample)] = event = ev.RolloutArrived(peer.name, rollout)
        self.to_ledger(event)
        lease[2] -= 1
        if not lease[2]:
            del peer.leases[key]

    def score(self, epoch, peer, task):
        if peer.alive:
            key = (task.group_id, task.attempt, task.sample)
            row = bisect_left(self.stream, task.group_id) % self.num_rows
            passed = self.passes(row, task.group_id, task.sample)
            reward = None if self.chance() else float(passed)
            peer.unacked[key] = event = ev.ScoreArrived(peer.name, make_score(epoch, *key, reward))
            self.to_ledger(event)

    def passes(self, row, group_id, sample):
        if self.limits.deterministic:
            return random.Random(group_id * 64 + sample).random() < row % 5 / 4
        return self.rng.random() < row % 5 / 4

    # What goes wrong.

    def trouble(self):
        if not self.faulty:
            return
        for peer in list(self.peers.values()):
            if self.chance():
                peer.alive = False
                del self.peers[peer.name]
                self.later(self.rng.uniform(0, 4), self.apply, ev.PeerLost(peer.name))
                self.start_peer(peer.role)
            elif self.chance():  # taken for dead, though it lives
                self.apply(ev.PeerLost(peer.name))
                self.later(self.rng.uniform(0, 9), self.join, peer)
        if self.fault:
            for _ in range(3):
                self.to_ledger(self.garbage())
        if self.chance(0.3):
            self.start_learner()
        self.later(5.0, self.trouble)

    def garbage(self):
        rng = self.rng
        peer = rng.choice([*self.peers, "nobody"])
        newest = self.stream[-1] if self.stream else 0
        group_id = rng.choice([0, rng.randint(max(0, newest - 20), newest + 3), EVALUATION_IDS])
        attempt, sample = rng.randint(0, 3), rng.randint(0, 4)
        epoch = self.epoch - (rng.random() < 0.2)
        leases = [(name, *key) for name, p in self.peers.items() for key in p.leases]
        if leases and rng.random() < 0.5:  # as if from a holder, so that it is nearly right
            peer, group_id, attempt = rng.choice(leases)
        version = max(0, self.ledger.policy_version + rng.randint(-4, 2))
        rollout = make_rollout(epoch, group_id, attempt, sample, ((version, 2),))
        reward = None if self.limits.deterministic else 0.5  # a wrong one would be believed
        return rng.choice(
            [
                ev.RolloutArrived(peer, rollout),
                ev.ScoreArrived(peer, make_score(epoch, group_id, attempt, sample, reward)),
                ev.LeaseFailed(peer, epoch, group_id, attempt, "garbage"),
                ev.Progress(peer, ((group_id, attempt, rng.randint(0, 99)),)),
                ev.CapacityReported("nobody", 3, version),
                ev.PeerLost("nobody"),
            ]
        )
