"""Trainers of the tiny policy, and a policy of one table, saved and restored."""

from types import SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest

from learner.algorithm import make_algorithm
from learner.checkpoints.position import Position
from learner.checkpoints.restore import restore_checkpoint
from learner.checkpoints.retention import folder_of
from learner.checkpoints.writer import CheckpointWriter
from learner.ledger.snapshot import ScoredGroup, Snapshot
from learner.parameters import Parameters
from learner.step import Trainer
from protocol.policy import load_policy

SNAPSHOT = Snapshot(
    watermark=3, done=(5, 9), attempts=((4, 2),), counts={"trained": 5}, batch_groups=2
)


@pytest.fixture
def train(make_config, make_sample):
    """Makes a trainer of the tiny policy and takes some steps."""

    def make(num_steps=2, tuning="full", algorithm="grpo", **lora):
        section = {"tuning": tuning, "lora": lora, "optimizer": {"learning_rate": 0.01}}
        config = make_config(learner=section, algorithm={"name": algorithm})
        trainer = Trainer(load_policy(config), make_algorithm(config.algorithm), config)
        more_steps(trainer, num_steps)
        return trainer, config

    def more_steps(trainer, num_steps):
        for step in range(num_steps):
            samples = [
                make_sample((7, 8, 16, 9, 20), (10 + step, 11, 5), reward=1.0),
                make_sample((7, 8, 16, 9, 20), (12, 5), reward=0.0, sample=1),
            ]
            assert not trainer.step(samples, step, step).skipped

    return SimpleNamespace(make=make, more_steps=more_steps)


@pytest.fixture
def save():
    """Saves a trainer's state and waits until it is on disk."""

    def saved(folder, trainer, config, step=2, snapshot=SNAPSHOT, **facts):
        writer = CheckpointWriter(folder, config, facts)
        writer.save(Position(step, step, snapshot), trainer.policy, trainer.parameters)
        writer.wait()
        return folder_of(folder, step)

    return saved


@pytest.fixture
def bits():
    """The bytes of arrays, by name."""

    def of(arrays):
        return {name: np.array(array).tobytes() for name, array in arrays.items()}

    return of


@pytest.fixture
def scored_group(make_sample):
    """A scored group of two samples, by its id."""

    def make(group_id):
        samples = [
            make_sample(token_ids=(9, 10, 5), group=group_id, reward=1.0),
            make_sample(token_ids=(11, 5), group=group_id, sample=1, reward=None),
        ]
        return ScoredGroup(
            group_id=group_id,
            row=group_id % 8,
            attempt=1,
            actor="actor-1",
            lease_version=2,
            oldest_version=0,
            rollouts=tuple(sample.rollout for sample in samples),
            scores=tuple(sample.score for sample in samples),
        )

    return make


@pytest.fixture
def table(make_bigram, make_config, tmp_path):
    """A trainer in small: a table whose every step adds 1, saved and restored in a moment."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "bigram"}')

    def make(value=0.0):
        policy = make_bigram()
        policy.folder = model
        parameters = Parameters(policy, None, make_config())
        masters = parameters.masters
        masters.replace({"table": mx.full(masters.arrays["table"].shape, value)})
        return SimpleNamespace(policy=policy, parameters=parameters)

    def value_in(folder, step=None):
        """Which value the restored table has, and at which step."""
        made = make(-1.0)
        restored = restore_checkpoint(folder, made.parameters, make_config(), step)
        if restored is None:
            return None
        [value] = set(np.array(made.parameters.masters.arrays["table"]).ravel().tolist())
        return restored.position.step, value

    return SimpleNamespace(make=make, value_in=value_in, config=make_config())
