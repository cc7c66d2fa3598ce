"""Builders that several tests of the reward worker share."""

import inspect
import json

import pytest

from protocol.messages import ScoreTask, ScoreWork
from reward_workers.binding import BoundReward


@pytest.fixture
def make_task():
    def make(completion: str = "85", sample: int = 0, **columns: object) -> ScoreTask:
        return ScoreTask(
            group_id=7,
            attempt=1,
            sample=sample,
            prompt=json.dumps("37+48="),
            completion=completion,
            completion_tokens=len(completion),
            finish_reason="stop",
            columns=json.dumps(columns),
        )

    return make


@pytest.fixture
def make_work(make_task):
    def make(*completions: str, run_epoch: int = 1, first_sample: int = 0) -> ScoreWork:
        tasks = tuple(
            make_task(completion, first_sample + index, answer="85")
            for index, completion in enumerate(completions)
        )
        return ScoreWork(run_epoch=run_epoch, tasks=tasks)

    return make


@pytest.fixture
def bind():
    """Makes a reward of any function, without a config."""

    def make(function, weight: float = 1.0, **parameters: object) -> BoundReward:
        name = getattr(function, "__name__", "reward")
        return BoundReward(name, weight, function, parameters, inspect.signature(function))

    return make
