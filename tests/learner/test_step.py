"""One training step, on a model small enough to check by hand and on the built-in tiny policy."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from learner.algorithm import Algorithm, make_algorithm
from learner.optimizer import optimizer_state
from learner.step import Trainer
from protocol.policy import Policy, load_policy

VOCABULARY = 6


class Bigram(nn.Module):
    """The next token's logits are a row of one table."""

    def __init__(self):
        super().__init__()
        self.table = mx.array(np.random.default_rng(0).normal(size=(VOCABULARY, VOCABULARY)))
        self.layers = []

    def __call__(self, inputs, cache=None):
        return self.table[inputs]


def make_trainer(config, algorithm=None):
    policy = Policy(Bigram(), SimpleNamespace(), Path(), mx.bfloat16, mx.float32)
    return Trainer(policy, algorithm or make_algorithm(config.algorithm), config)


@pytest.fixture
def config(make_config):
    return make_config(
        learner={"optimizer": {"learning_rate": 0.01}}, generation={"temperature": 0.7}
    )


@pytest.fixture
def batch(make_sample):
    """Two groups of different lengths, one sample masked."""
    return [
        make_sample((1, 2), (3, 4, 5), reward=1.0, group=0, sample=0),
        make_sample((1, 2), (0, 5), reward=0.0, group=0, sample=1),
        make_sample((4,), (1,) * 30, reward=0.25, group=1, sample=0),
        make_sample((4,), (2, 2, 3, 5), reward=None, group=1, sample=1),
        make_sample((4,), (3, 5), reward=0.75, group=1, sample=2),
    ]


def logprobs_by_hand(trainer, sample, temperature=0.7):
    """[T] nats and [T] entropies of a completion, in NumPy."""
    table = np.array(trainer.policy.model.table, np.float64) / temperature
    tokens = [*sample.prompt_ids, *sample.rollout.token_ids]
    first = len(sample.prompt_ids)
    rows = table[tokens[first - 1 : -1]]
    logs = rows - np.log(np.exp(rows).sum(axis=-1, keepdims=True))
    picked = logs[np.arange(len(rows)), sample.rollout.token_ids]
    return picked, -(np.exp(logs) * logs).sum(axis=-1)


def table_of(trainer):
    return np.array(trainer.masters.arrays["table"])


def state_of(trainer):
    return {name: np.array(array) for name, array in optimizer_state(trainer.optimizer).items()}


def assert_untouched(trainer, table, state):
    np.testing.assert_array_equal(table_of(trainer), table)
    for name, array in state_of(trainer).items():
        np.testing.assert_array_equal(array, state[name])


def test_logprobs_are_those_of_each_sample_before_the_step(config, batch):
    trainer = make_trainer(config)
    expected = [logprobs_by_hand(trainer, sample)[0] for sample in batch]
    result = trainer.step(batch, 0)
    assert result.skipped == ""
    for index, wanted in enumerate(expected):
        logprobs = result.logprobs[index]
        if index == 3:
            assert logprobs is None
        else:
            assert logprobs is not None
            np.testing.assert_allclose(logprobs, wanted, atol=1e-5)


def test_entropy_is_the_mean_over_the_trained_tokens_at_the_sampling_temperature(config, batch):
    trainer = make_trainer(config)
    kept = [sample for sample in batch if sample.score.reward is not None]
    entropies = np.concatenate([logprobs_by_hand(trainer, sample)[1] for sample in kept])
    metrics = trainer.step(batch, 0).metrics
    assert metrics["entropy"] == pytest.approx(entropies.mean(), abs=1e-5)


def test_loss_and_mismatch_are_those_of_the_formulas(config, batch):
    # token mean of -min(rho A, clip(rho, 0.8, 1.2) A), and of rho - log rho - 1
    trainer = make_trainer(config)
    terms, mismatch = [], []
    # group 0: rewards 1, 0 -> A = 1, -1; group 1: 0.25, 0.75 -> -1, 1 (population std, eps 1e-6)
    for index, advantage in ((0, 1.0), (1, -1.0), (2, -1.0), (4, 1.0)):
        ratio = np.exp(logprobs_by_hand(trainer, batch[index])[0] + 0.5)
        terms.append(-np.minimum(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage))
        mismatch.append(ratio - np.log(ratio) - 1.0)
    metrics = trainer.step(batch, 0).metrics
    assert metrics["loss"] == pytest.approx(np.concatenate(terms).mean(), rel=1e-4)
    assert metrics["mismatch_kl"] == pytest.approx(np.concatenate(mismatch).mean(), rel=1e-4)


def test_the_microbatch_budget_changes_neither_loss_nor_step(make_config, batch):
    losses, tables = [], []
    for budget in (1, 40, 10_000):
        section = {"microbatch_tokens": budget, "optimizer": {"learning_rate": 0.01}}
        trainer = make_trainer(make_config(learner=section))
        losses += [trainer.step(batch, step).metrics for step in range(3)]
        tables.append(table_of(trainer))
    for name in losses[0]:
        by_step = np.array([metrics[name] for metrics in losses]).reshape(3, 3)
        np.testing.assert_allclose(by_step[1:], by_step[[0, 0]], rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(tables[1], tables[0], atol=1e-6)
    np.testing.assert_allclose(tables[2], tables[0], atol=1e-6)
    assert abs(tables[0] - table_of(make_trainer(make_config()))).max() > 0.01


def broken(loss):
    """GRPO's advantages with a loss that goes wrong."""
    return Algorithm(advantages=lambda batch: np.ones(len(batch.rewards_B), np.float32), loss=loss)


def infinite_loss(tokens, totals):
    return tokens.logprobs_BT.sum() + mx.inf, {}


def infinite_gradient(tokens, totals):
    # sqrt(0) is 0 and its slope is infinite
    return mx.sqrt(tokens.logprobs_BT - mx.stop_gradient(tokens.logprobs_BT)).sum(), {}


@pytest.mark.parametrize("loss", [infinite_loss, infinite_gradient])
def test_numbers_that_are_not_finite_skip_the_step_and_touch_nothing(config, batch, loss):
    trainer = make_trainer(config)
    trainer.step(batch, 0)  # so that the optimizer has moments to lose
    table, state = table_of(trainer), state_of(trainer)
    expected = [logprobs_by_hand(trainer, sample)[0] for sample in batch]
    trainer._algorithm = broken(loss)  # pyright: ignore[reportPrivateUsage]
    result = trainer.step(batch, 1)
    assert result.skipped == "non_finite"
    assert_untouched(trainer, table, state)
    trainer._algorithm = make_algorithm(config.algorithm)  # pyright: ignore[reportPrivateUsage]
    after = trainer.step(batch, 2)
    assert after.skipped == ""
    first = after.logprobs[0]
    assert first is not None
    np.testing.assert_allclose(first, expected[0], atol=1e-5)


def test_a_batch_of_masked_samples_is_skipped_as_masked(config, make_sample):
    trainer = make_trainer(config)
    table, state = table_of(trainer), state_of(trainer)
    result = trainer.step([make_sample(reward=None), make_sample(reward=None, sample=1)], 0)
    assert result.skipped == "masked"
    assert result.logprobs == (None, None)
    assert result.metrics == {"learning_rate": 0.01}
    assert_untouched(trainer, table, state)


def test_steps_raise_the_logprob_of_the_rewarded_completion_and_lower_the_other(
    config, make_sample
):
    trainer = make_trainer(config)

    def on_policy(tokens, reward):
        logprobs = logprobs_by_hand(trainer, make_sample((1, 2), tokens))[0]
        return make_sample((1, 2), tokens, reward=reward, logprobs=logprobs)

    samples = [on_policy((3, 4, 5), 1.0), on_policy((0, 5), 0.0)]
    before = [logprobs_by_hand(trainer, sample)[0].sum() for sample in samples]
    for step in range(10):
        result = trainer.step(samples, step)
        if step == 0:
            assert result.metrics["mismatch_kl"] == pytest.approx(0.0, abs=1e-6)
    after = [logprobs_by_hand(trainer, sample)[0].sum() for sample in samples]
    assert after[0] > before[0] + 0.1
    assert after[1] < before[1] - 0.1


def test_the_schedule_follows_the_step(make_config, batch):
    section = {"optimizer": {"learning_rate": 0.02, "warmup_steps": 3}}
    trainer = make_trainer(make_config(learner=section))
    rates = [trainer.step(batch, step).metrics["learning_rate"] for step in (0, 1, 2, 3)]
    assert rates == pytest.approx([0.005, 0.01, 0.015, 0.02])


@pytest.fixture
def tiny_batch(make_sample):
    return [
        make_sample((7, 8, 16, 9, 20), (10, 11, 5), reward=1.0),
        make_sample((7, 8, 16, 9, 20), (12, 5), reward=0.0, sample=1),
    ]


def test_lora_tuning_changes_adapters_alone(make_config, tiny_batch):
    section = {"tuning": "lora", "optimizer": {"learning_rate": 0.01}}
    config = make_config(learner=section)
    policy = load_policy(config)
    trainer = Trainer(policy, make_algorithm(config.algorithm), config)
    assert trainer.masters.arrays
    assert all(name.endswith(("lora_a", "lora_b")) for name in trainer.masters.arrays)
    embedding = np.array(policy.model.model.embed_tokens.weight)
    before = {name: np.array(array) for name, array in trainer.masters.arrays.items()}
    for step in range(2):
        assert trainer.step(tiny_batch, step).skipped == ""
    for name, array in trainer.masters.arrays.items():
        assert abs(np.array(array) - before[name]).max() > 1e-3
    np.testing.assert_array_equal(np.array(policy.model.model.embed_tokens.weight), embedding)


CHECKPOINTED = """
import json
import numpy as np
from learner.algorithm import make_algorithm
from learner.batch import microbatches
from learner.step import Trainer
from protocol.config import RunConfig
from protocol.policy import load_policy

def masters(config, samples):
    trainer = Trainer(load_policy(config), make_algorithm(config.algorithm), config)
    layer = type(trainer.policy.model.layers[0])
    result = trainer.step(samples, 0)
    return layer.__call__, result.metrics["grad_norm"], {
        name: np.array(array) for name, array in trainer.masters.arrays.items()
    }

def check(configs, samples):
    (plain, norm, without), (patched, other_norm, within) = (masters(c, samples) for c in configs)
    assert plain is not patched, "the layers' activations are not recomputed"
    assert norm > 0 and abs(norm - other_norm) < 1e-5 * norm, (norm, other_norm)
    for name in without:
        assert abs(without[name] - within[name]).max() < 1e-6, name
"""


def test_recomputed_activations_give_the_same_gradient(make_config, tiny_batch, tmp_path):
    # grad_checkpoint patches the layers' class for the whole process: a process of its own
    configs = [
        make_config(learner={"grad_checkpoint": wanted, "optimizer": {"learning_rate": 1e-3}})
        for wanted in (False, True)
    ]
    script = tmp_path / "script.py"
    jsons = [config.model_dump_json() for config in configs]
    rows = [
        {
            "rollout": sample.rollout.model_dump(mode="python"),
            "score": sample.score.model_dump(mode="python"),
            "prompt_ids": sample.prompt_ids.tolist(),
        }
        for sample in tiny_batch
    ]
    script.write_text(
        CHECKPOINTED
        + f"""
from learner.samples import ScoredSample
from protocol.messages import Rollout, Score
samples = [
    ScoredSample("p", "p", np.array(row["prompt_ids"], np.int32), "a",
                 Rollout.model_validate(row["rollout"]), Score.model_validate(row["score"]))
    for row in {rows!r}
]
check([RunConfig.model_validate_json(text) for text in {jsons!r}], samples)
"""
    )
    found = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
