"""Fixtures that more than one folder of tests uses."""

import contextlib
import random
import socket

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from learner.samples import ScoredSample
from protocol.config import RunConfig
from protocol.messages import NamedReward, Rollout, Score
from protocol.transport import Channel

HOST = "127.0.0.1"

# a slow shared core is no failure
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")


def _are_free(ports):
    with contextlib.ExitStack() as held:
        for port in ports:
            opened = held.enter_context(socket.socket())
            try:
                opened.bind((HOST, port))
            except OSError:
                return False
    return True


@pytest.fixture
def free_port():
    """A control port that is free together with the ports of the other channels."""
    chosen = random.Random()  # not seeded: test runs beside this one must choose other ports
    while True:
        port = chosen.randrange(20_000, 60_000)
        if _are_free(range(port, port + len(Channel))):
            return port


@pytest.fixture(scope="session")
def make_config():
    """A run of the built-in tiny policy on a few prompts; `learner={...}` says more."""

    def make(**sections) -> RunConfig:
        base = {
            "model": {"path": "builtin:tiny"},
            "data": {"train": ["arithmetic:add2?count=8"], "heldout": ["arithmetic:add2?count=2"]},
            "rewards": [{"name": "exact_match"}],
            **sections,
            "network": {"http_port": 0, **sections.get("network", {})},
        }
        return RunConfig.model_validate(base)

    return make


@pytest.fixture(scope="session")
def make_sample():
    """A scored completion; its behaviour logprobs are -0.5 unless they are given."""

    def make(
        prompt_ids=(7, 8),
        token_ids=(9, 5),
        *,
        reward: float | None = 1.0,
        group=0,
        sample=0,
        logprobs=None,
        versions=None,
        finish_reason="stop",
        rewards=None,
    ) -> ScoredSample:
        score = {"run_epoch": 1, "group_id": group, "attempt": 1, "sample": sample}
        if rewards is None:
            rewards = {"exact_match": reward}
        rollout = {
            **score,
            "token_ids": np.array(token_ids, np.int32),
            "behaviour_logprobs": [-0.5] * len(token_ids) if logprobs is None else logprobs,
            "policy_versions": versions or ((0, len(token_ids)),),
            "finish_reason": finish_reason,
            "completion": f"completion {group}/{sample}",
            "seconds": 0.5,
        }
        named = tuple(NamedReward(name=name, reward=value) for name, value in rewards.items())
        status = "ok" if reward is not None else "reward_error"
        return ScoredSample(
            prompt_id=f"prompt-{group}",
            prompt=f"{group}+1=",
            prompt_ids=np.array(prompt_ids, np.int32),
            actor="actor-1",
            rollout=Rollout.model_validate(rollout),
            score=Score.model_validate(
                {**score, "reward": reward, "rewards": named, "status": status}
            ),
        )

    return make
