"""Histories by hand of groups with rewards."""

from typing import Any

import numpy as np

from learner.ledger import events as ev
from learner.ledger.admission import LedgerLimits
from learner.ledger.ledger import Ledger
from protocol.messages import Rollout, Score


class Story:
    """A ledger whose one actor and one worker hold anything; short words for what happens."""

    def __init__(self, snapshot=None, version=0, **limits):
        numbers: dict[str, Any] = {"groups_per_step": 2, "group_size": 2}
        numbers |= {"max_off_policy_steps": 0, "prompts_low_water": 1}
        self.limits = LedgerLimits(**(numbers | limits))
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
        assert group is not None
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
