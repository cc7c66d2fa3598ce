"""Peers of the simulation, and the messages that they send."""

from dataclasses import dataclass, field

import numpy as np

from protocol.messages import Rollout, Score

TOKENS = [np.zeros(n, dtype=np.int32) for n in range(8)]
LOGPROBS = [np.zeros(n, dtype=np.float32) for n in range(8)]


def make_rollout(epoch, group_id, attempt, sample, versions):
    length = sum(n for _, n in versions)
    return Rollout.model_construct(
        run_epoch=epoch,
        group_id=group_id,
        attempt=attempt,
        sample=sample,
        token_ids=TOKENS[length],
        behaviour_logprobs=LOGPROBS[length],
        policy_versions=versions,
        finish_reason="stop",
        completion="",
        seconds=0.0,
    )


def make_score(epoch, group_id, attempt, sample, reward):
    return Score.model_construct(
        run_epoch=epoch,
        group_id=group_id,
        attempt=attempt,
        sample=sample,
        reward=reward,
        rewards=(),
        status="ok" if reward is not None else "reward_error",
    )


@dataclass
class FakePeer:
    name: str
    role: str
    capacity: int
    epoch: int
    version: int = -1
    alive: bool = True
    hung: bool = False
    leases: dict = field(default_factory=dict)
    """(group id, attempt) -> [version at the start, tokens, samples to go]"""
    unacked: dict = field(default_factory=dict)
    """(group id, attempt, sample) -> the event to send again"""
