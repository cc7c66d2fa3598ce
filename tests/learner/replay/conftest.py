"""A run folder that the trainer itself filled, without any other process."""

import asyncio
import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learner.algorithm import make_algorithm
from learner.checkpoints.position import Position
from learner.checkpoints.restore import restore_checkpoint
from learner.checkpoints.writer import CheckpointWriter
from learner.data.prompts import read_prompts, tokenize_prompts
from learner.data.stream import PromptStream
from learner.digests import MASTERS, ROLLOUTS, WEIGHTS, masters_digest, rollouts_digest
from learner.ledger.snapshot import Snapshot
from learner.records import StepClock, metrics_row, rollout_rows
from learner.run_folder import RunFolder
from learner.samples import ScoredSample
from learner.step import Trainer
from protocol.messages import NamedReward, Rollout, Score
from protocol.policy import load_policy
from protocol.weights import pack

STEPS = 4
GROUPS = 3
GROUP_SIZE = 3
END = 5


class MadeRun:
    """A run folder, and ways to tamper with it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rollouts(self, step: int) -> Path:
        return self.path / "rollouts" / f"step_{step:06d}.jsonl"

    def rows(self, step: int) -> list[dict]:
        return [json.loads(line) for line in self.rollouts(step).read_text().splitlines()]

    def write_rows(self, step: int, rows: list[dict], *, digest: bool = False) -> None:
        """With `digest` the row of metrics.jsonl follows, so that it tells nothing."""
        path = self.rollouts(step)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        if digest:
            self.edit_step(step, **{ROLLOUTS: rollouts_digest(path)})

    def edit_step(self, step: int, **changes: object) -> None:
        """Change keys of a row of metrics.jsonl; None removes one."""
        path = self.path / "metrics.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            if row["step"] == step:
                row.update(changes)
                for key in [key for key, value in changes.items() if value is None]:
                    del row[key]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def forget_digests(self) -> None:
        """Make it a run of a version that recorded none."""
        for step in range(1, STEPS + 1):
            self.edit_step(step, **{WEIGHTS: None, ROLLOUTS: None, MASTERS: None})


class Maker:
    """Trains as the loop does, on completions that chance wrote."""

    def __init__(self, config, folder: RunFolder, run_epoch: int = 1) -> None:
        self.config, self.folder, self.run_epoch = config, folder, run_epoch
        self.folder.keep_config(config, run_epoch)
        self.policy = load_policy(config)
        self.trainer = Trainer(self.policy, make_algorithm(config.algorithm), config)
        rows = asyncio.run(read_prompts(config.data, config.run.seed)).train
        self.prompts = tokenize_prompts(rows, self.policy.tokenizer, 100)
        self.stream = PromptStream(len(rows), config.run.seed)
        self.random = random.Random(0)
        self.writer = CheckpointWriter(folder.checkpoints, config, {})

    def train(self, step: int, version: int) -> bool:
        samples = [
            self.sample(group, sample, version)
            for group in range((step - 1) * GROUPS, step * GROUPS)
            for sample in range(GROUP_SIZE)
        ]
        samples = self.sampled_by_the_policy(samples)
        result = self.trainer.step(samples, step - 1, version)
        version += not result.skipped
        self.folder.write_rollouts(step, rollout_rows(samples, result))
        masters = self.trainer.parameters.masters
        digests = {
            WEIGHTS: pack(masters.rounded().items()).digest,
            ROLLOUTS: rollouts_digest(self.folder.path / "rollouts" / f"step_{step:06d}.jsonl"),
            MASTERS: masters_digest(masters.arrays),
        }
        row = metrics_row(
            step=step,
            policy_version=version,
            samples=samples,
            result=result,
            clock=StepClock(0.0),
            now=1.0,
            counts={},
            run_epoch=self.run_epoch,
            digests=digests,
        )
        self.folder.append_metrics(row)
        if self.config.checkpoints.interval and step % self.config.checkpoints.interval == 0:
            position = Position(step, version, Snapshot())
            self.writer.save(position, self.policy, self.trainer.parameters)
            self.writer.wait()
        return not result.skipped

    def sample(self, group: int, sample: int, version: int) -> ScoredSample:
        """The first one is right in groups 0 1, 3 4, ...; the third group of a step has no
        advantages, and the last step has none at all."""
        row = self.stream.prompt_at(group)
        assert row is not None
        prompt = self.prompts[row]
        is_right = sample == 0 and group % GROUPS < 2 and group < (STEPS - 1) * GROUPS
        answer = prompt.row.columns["answer"]
        text = answer if is_right else str(self.random.randrange(1000, 9999))
        tokens = [*self.policy.tokenizer.encode(text), END]
        is_masked = group == 1 and sample == 2
        key: Any = {"run_epoch": 1, "group_id": group, "attempt": 1, "sample": sample}
        named = None if is_masked else float(is_right)
        reward = None if named is None else named * self.config.rewards[0].weight
        return ScoredSample(
            prompt_id=prompt.row.prompt_id,
            prompt=prompt.row.prompt,
            prompt_ids=np.array(prompt.prompt_ids, np.int32),
            actor="actor-1",
            rollout=Rollout(
                **key,
                token_ids=np.array(tokens, np.int32),
                behaviour_logprobs=np.zeros(len(tokens), np.float32),
                policy_versions=((version, len(tokens)),),
                finish_reason="stop",
                completion=text,
                seconds=0.5,
            ),
            score=Score(
                **key,
                reward=reward,
                rewards=(NamedReward(name="exact_match", reward=named, facts={"seen": 1}),),
                status="reward_timeout" if is_masked else "ok",
            ),
        )

    def sampled_by_the_policy(self, samples):
        logprobs = self.trainer.logprobs(samples, self.config.generation.temperature)
        return [
            replace(s, rollout=s.rollout.model_copy(update={"behaviour_logprobs": found}))
            for s, found in zip(samples, logprobs, strict=True)
        ]


SECTIONS: dict[str, Any] = {
    "run": {"max_steps": STEPS},
    "learner": {"groups_per_step": GROUPS, "optimizer": {"learning_rate": 1e-3}},
    "generation": {"group_size": GROUP_SIZE},
    "data": {"train": ["arithmetic:add2?count=32"]},
    "checkpoints": {"interval": 2},
    "reward_worker": {"processes": 1},
}


@pytest.fixture(scope="session")
def recorded_run(make_config, tmp_path_factory):
    """Four steps, checkpoints after the second and the fourth, the fourth step skipped."""
    path = tmp_path_factory.mktemp("replay") / "run"
    config = make_config(**SECTIONS)
    folder = RunFolder(path)
    folder.create(config, resume=False)
    maker, version = Maker(config, folder), 0
    for step in range(1, STEPS + 1):
        version += maker.train(step, version)
    folder.release()
    assert version == STEPS - 1
    return path


@pytest.fixture
def run(recorded_run, tmp_path):
    """A copy of it."""
    shutil.copytree(recorded_run, tmp_path / "run")
    return MadeRun(tmp_path / "run")


@pytest.fixture(scope="session")
def recorded_resumed_run(make_config, tmp_path_factory):
    """Resumed after the second step with another optimizer, algorithm, reward and max_steps."""
    folder = RunFolder(tmp_path_factory.mktemp("replay") / "resumed")
    config = make_config(**SECTIONS)
    folder.create(config, resume=False)
    maker = Maker(config, folder)
    version = sum(maker.train(step, step - 1) for step in (1, 2))
    optimizer = {"learning_rate": 3e-3, "schedule": "linear", "betas": (0.8, 0.99)}
    changed = {
        "run": {"max_steps": 2 * STEPS},
        "learner": {**SECTIONS["learner"], "optimizer": optimizer, "grad_checkpoint": True},
        "algorithm": {"name": "rloo"},
        "rewards": [{"name": "exact_match", "weight": 0.5}],
    }
    config = make_config(**{**SECTIONS, **changed})
    folder.create(config, resume=True)
    maker = Maker(config, folder, run_epoch=2)
    assert restore_checkpoint(folder.checkpoints, maker.trainer.parameters, config) is not None
    for step in (3, 4):
        version += maker.train(step, version)
    folder.release()
    return folder.path


@pytest.fixture
def resumed_run(recorded_resumed_run, tmp_path):
    """A copy of it."""
    shutil.copytree(recorded_resumed_run, tmp_path / "resumed")
    return MadeRun(tmp_path / "resumed")
