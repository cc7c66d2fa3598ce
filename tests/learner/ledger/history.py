"""Histories by hand of a ledger with a clock, and what to look for in its actions."""

from typing import Any

import numpy as np

from learner.ledger import events as ev
from learner.ledger.admission import LedgerLimits
from learner.ledger.ledger import Ledger
from protocol.messages import Rollout, Score

LEASE, SCORE = 60.0, 120.0


def make_rollout(group_id, sample=0, attempt=1, epoch=1, runs=((0, 2),)):
    length = sum(n for _, n in runs)
    return Rollout(
        run_epoch=epoch,
        group_id=group_id,
        attempt=attempt,
        sample=sample,
        token_ids=np.zeros(length, dtype=np.int32),
        behaviour_logprobs=np.zeros(length, dtype=np.float32),
        policy_versions=runs,
        finish_reason="stop",
        completion="x",
        seconds=0.1,
    )


def make_score(group_id, sample=0, attempt=1, epoch=1, reward=1.0):
    return Score(
        run_epoch=epoch,
        group_id=group_id,
        attempt=attempt,
        sample=sample,
        reward=reward,
        rewards=(),
        status="ok" if reward is not None else "reward_error",
    )


class History:
    """A ledger with a clock, and short words for what happens to it."""

    def __init__(self, done=None, version=0, epoch=1, **limits):
        defaults: dict[str, Any] = {
            "groups_per_step": 2,
            "group_size": 1,
            "max_off_policy_steps": 0,
        }
        numbers = {"lease_seconds": LEASE, "score_seconds": SCORE, "prompts_low_water": 1}
        self.limits = LedgerLimits(**(defaults | numbers | limits))
        self.ledger = Ledger(self.limits, epoch, version, done)
        self.now = 0.0

    def __call__(self, event):
        return self.ledger.apply(event, self.now)

    def prompts(self, *group_ids, rows=None):
        return self(ev.PromptsAdded(group_ids, rows or group_ids))

    def actor(self, name="a", capacity=100, version=0):
        self(ev.PeerJoined(name, "actor"))
        return self(ev.CapacityReported(name, capacity, version))

    def worker(self, name="w", capacity=100):
        self(ev.PeerJoined(name, "reward_worker"))
        return self(ev.CapacityReported(name, capacity))

    def rollout(self, group_id, peer="a", **facts):
        return self(ev.RolloutArrived(peer, make_rollout(group_id, **facts)))

    def score(self, group_id, peer="w", **facts):
        return self(ev.ScoreArrived(peer, make_score(group_id, **facts)))

    def first_score(self, group_id):
        score = self.group(group_id).samples[0].score
        assert score is not None
        return score

    def finish(self, group_id, peer="a", **facts):
        """All of a one-sample group, from rollout to score."""
        self.rollout(group_id, peer, **facts)
        return self.score(group_id, attempt=facts.get("attempt", 1))

    def train(self):
        actions = self(ev.BatchTrained())
        self.actor(version=self.ledger.policy_version)
        return actions

    def tick(self, seconds):
        self.now += seconds
        return self(ev.Ticked())

    def group(self, group_id):
        group = self.ledger.group(group_id)
        assert group is not None
        return group

    def state(self, group_id):
        group = self.ledger.group(group_id)
        return group and group.state


def only(kind, actions):
    return [action for action in actions if isinstance(action, kind)]


def granted(actions):
    return [(action.peer, action.group_id) for action in only(ev.GrantLease, actions)]


def handed_over(actions):
    return [action.group_ids for action in only(ev.HandOver, actions)]


def reason_of(actions):
    (ack,) = only(ev.AckRollout, actions)
    return ack.accepted, ack.reason
