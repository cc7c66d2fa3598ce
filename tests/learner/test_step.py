"""One training step, on a model small enough to check by hand and on the built-in tiny policy."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from learner.algorithm import Algorithm, make_algorithm
from learner.optimizer import optimizer_state
from learner.step import NO_ADVANTAGE, Trainer
from protocol.errors import ConfigError
from protocol.policy import load_policy


@pytest.fixture
def config(make_config):
    return make_config(
        learner={"optimizer": {"learning_rate": 0.01}}, generation={"temperature": 0.7}
    )


@pytest.fixture
def make_trainer(make_bigram):
    def make(config, algorithm=None):
        return Trainer(make_bigram(), algorithm or make_algorithm(config.algorithm), config)

    return make


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


def table_of(trainer):
    return np.array(trainer.parameters.masters.arrays["table"])


def state_of(trainer):
    state = optimizer_state(trainer.parameters.optimizer)
    return {name: np.array(array) for name, array in state.items()}


def assert_untouched(trainer, table, state):
    np.testing.assert_array_equal(table_of(trainer), table)
    for name, array in state_of(trainer).items():
        np.testing.assert_array_equal(array, state[name])


def test_logprobs_are_those_of_each_sample_before_the_step(config, make_trainer, by_hand, batch):
    trainer = make_trainer(config)
    expected = [by_hand(trainer.policy, sample)[0] for sample in batch]
    result = trainer.step(batch, 0, 0)
    assert result.skipped == ""
    for index, wanted in enumerate(expected):
        logprobs = result.logprobs[index]
        if index == 3:
            assert logprobs is None
        else:
            assert logprobs is not None
            np.testing.assert_allclose(logprobs, wanted, atol=1e-5)


def test_logprobs_can_be_asked_for_at_any_temperature(config, make_trainer, by_hand, batch):
    trainer = make_trainer(config)
    table, state = table_of(trainer), state_of(trainer)
    for temperature in (0.7, 1.0, 2.0):
        found = trainer.logprobs(batch, temperature)
        assert len(found) == len(batch)
        for sample, logprobs in zip(batch, found, strict=True):
            wanted = by_hand(trainer.policy, sample, temperature)[0]
            np.testing.assert_allclose(logprobs, wanted, atol=1e-5)
    assert_untouched(trainer, table, state)


def test_entropy_is_the_mean_over_the_trained_tokens_at_the_sampling_temperature(
    config, make_trainer, by_hand, batch
):
    trainer = make_trainer(config)
    kept = [sample for sample in batch if sample.score.reward is not None]
    entropies = np.concatenate([by_hand(trainer.policy, sample)[1] for sample in kept])
    metrics = trainer.step(batch, 0, 0).metrics
    assert metrics["entropy"] == pytest.approx(entropies.mean(), abs=1e-5)


def test_loss_and_mismatch_are_those_of_the_formulas(config, make_trainer, by_hand, batch):
    # token mean of -min(rho A, clip(rho, 0.8, 1.2) A), and of rho - log rho - 1
    trainer = make_trainer(config)
    terms, mismatch = [], []
    # group 0: rewards 1, 0 -> A = 1, -1; group 1: 0.25, 0.75 -> -1, 1 (population std, eps 1e-6)
    for index, advantage in ((0, 1.0), (1, -1.0), (2, -1.0), (4, 1.0)):
        ratio = np.exp(by_hand(trainer.policy, batch[index])[0] + 0.5)
        terms.append(-np.minimum(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage))
        mismatch.append(ratio - np.log(ratio) - 1.0)
    result = trainer.step(batch, 0, 0)
    assert result.metrics["loss"] == pytest.approx(np.concatenate(terms).mean(), rel=1e-4)
    assert result.metrics["mismatch_kl"] == pytest.approx(np.concatenate(mismatch).mean(), rel=1e-4)
    assert result.advantages.tolist() == pytest.approx([1.0, -1.0, -1.0, 0.0, 1.0], abs=1e-4)


def test_the_microbatch_budget_changes_neither_loss_nor_step(make_config, make_trainer, batch):
    losses, tables = [], []
    for budget in (1, 40, 10_000):
        section = {"microbatch_tokens": budget, "optimizer": {"learning_rate": 0.01}}
        trainer = make_trainer(make_config(learner=section))
        losses += [trainer.step(batch, step, step).metrics for step in range(3)]
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
def test_numbers_that_are_not_finite_skip_the_step_and_touch_nothing(
    config, make_trainer, by_hand, batch, loss
):
    trainer = make_trainer(config)
    trainer.step(batch, 0, 0)  # so that the optimizer has moments to lose
    table, state = table_of(trainer), state_of(trainer)
    expected = [by_hand(trainer.policy, sample)[0] for sample in batch]
    trainer._algorithm = broken(loss)
    result = trainer.step(batch, 1, 1)
    assert result.skipped == "non_finite"
    assert_untouched(trainer, table, state)
    trainer._algorithm = make_algorithm(config.algorithm)
    after = trainer.step(batch, 2, 1)
    assert after.skipped == ""
    first = after.logprobs[0]
    assert first is not None
    np.testing.assert_allclose(first, expected[0], atol=1e-5)


def test_a_batch_of_masked_samples_is_skipped_as_masked(config, make_trainer, make_sample):
    trainer = make_trainer(config)
    table, state = table_of(trainer), state_of(trainer)
    result = trainer.step([make_sample(reward=None), make_sample(reward=None, sample=1)], 0, 0)
    assert result.skipped == "masked"
    assert result.logprobs == (None, None)
    assert result.metrics == {"learning_rate": 0.01}
    assert_untouched(trainer, table, state)


def test_without_any_advantage_the_step_is_skipped_and_adam_stands_still(
    make_config, make_trainer, batch, make_sample
):
    # Adam would go on by its momentum
    equal = [make_sample((1, 2), (3, 4), reward=1.0, sample=i) for i in range(3)]
    for filters in (True, False):
        section = {"filter_zero_advantages": filters, "optimizer": {"learning_rate": 0.01}}
        trainer = make_trainer(make_config(learner=section))
        trainer.step(batch, 0, 0)
        table, state = table_of(trainer), state_of(trainer)
        result = trainer.step(equal, 1, 1)
        assert result.skipped == NO_ADVANTAGE
        assert result.logprobs == (None, None, None)
        assert result.metrics == {"learning_rate": 0.01}
        assert_untouched(trainer, table, state)


def test_leaving_out_what_has_no_advantage_changes_neither_loss_nor_gradient(
    make_config, make_trainer, batch, make_sample
):
    # group 2 teaches nothing; its tokens count in the denominator all the same
    equal = [make_sample((3, 1), (2,) * n, reward=1.0, group=2, sample=n) for n in (1, 7)]
    found = []
    for filters in (True, False):
        section = {"filter_zero_advantages": filters, "optimizer": {"learning_rate": 0.01}}
        trainer = make_trainer(make_config(learner=section))
        result = trainer.step([*batch, *equal], 0, 0)
        assert [logprobs is None for logprobs in result.logprobs[5:]] == [filters, filters]
        found.append((result.metrics["loss"], result.metrics["grad_norm"], table_of(trainer)))
    (loss, norm, table), (whole_loss, whole_norm, whole_table) = found
    assert loss == pytest.approx(whole_loss, rel=1e-5)
    assert norm == pytest.approx(whole_norm, rel=1e-5)
    np.testing.assert_allclose(table, whole_table, atol=1e-6)
    alone = make_trainer(make_config()).step(batch, 0, 0).metrics["loss"]
    # 37 tokens that teach, of 45
    assert loss == pytest.approx(alone * 37 / 45, rel=1e-5)


def test_where_zero_advantages_teach_every_sample_is_computed(config, make_trainer, make_sample):
    equal = [make_sample((1, 2), (3, 4), reward=1.0, sample=i) for i in range(2)]
    teaching = replace(make_algorithm(config.algorithm), zero_advantages_teach=True)
    result = make_trainer(config, teaching).step(equal, 0, 0)
    assert result.skipped == ""
    assert all(logprobs is not None for logprobs in result.logprobs)


def test_staleness_is_that_of_each_token(config, make_trainer, make_sample):
    # the learner is at version 5; tokens of versions 2, 4, 4 are 3, 1, 1 behind
    seen = []
    grpo = make_algorithm(config.algorithm)

    def loss(tokens, totals):
        seen.append(mx.where(tokens.mask_BT, tokens.staleness_BT, -1))
        return grpo.loss(tokens, totals)

    samples = [
        make_sample((1, 2), (3, 4, 5), reward=1.0, versions=((2, 1), (4, 2))),
        make_sample((1, 2), (0, 5), reward=0.0, versions=((5, 2),), sample=1),
    ]
    make_trainer(config, replace(grpo, loss=loss)).step(samples, 0, policy_version=5)
    [staleness_BT] = seen
    rows = [[int(s) for s in row if s >= 0] for row in staleness_BT.tolist()]
    assert sorted(rows) == [[0, 0], [3, 1, 1]]


def test_totals_are_those_of_all_that_is_not_masked(make_config, make_trainer, batch):
    seen = []
    config = make_config(generation={"max_completion_tokens": 50})
    grpo = make_algorithm(config.algorithm)

    def loss(tokens, totals):
        seen.append((totals.num_tokens, totals.num_sequences, totals.max_completion_tokens))
        return grpo.loss(tokens, totals)

    make_trainer(config, replace(grpo, loss=loss)).step(batch, 0, 0)
    assert set(seen) == {(3 + 2 + 30 + 2, 4, 50)}


def test_steps_raise_the_logprob_of_the_rewarded_completion_and_lower_the_other(
    config, make_trainer, by_hand, make_sample
):
    trainer = make_trainer(config)

    def on_policy(tokens, reward):
        logprobs = by_hand(trainer.policy, make_sample((1, 2), tokens))[0]
        return make_sample((1, 2), tokens, reward=reward, logprobs=logprobs)

    samples = [on_policy((3, 4, 5), 1.0), on_policy((0, 5), 0.0)]
    before = [by_hand(trainer.policy, sample)[0].sum() for sample in samples]
    for step in range(10):
        result = trainer.step(samples, step, step)
        if step == 0:
            assert result.metrics["mismatch_kl"] == pytest.approx(0.0, abs=1e-6)
    after = [by_hand(trainer.policy, sample)[0].sum() for sample in samples]
    assert after[0] > before[0] + 0.1
    assert after[1] < before[1] - 0.1


def test_the_schedule_follows_the_step(make_config, make_trainer, batch):
    section = {"optimizer": {"learning_rate": 0.02, "warmup_steps": 3}}
    trainer = make_trainer(make_config(learner=section))
    rates = [trainer.step(batch, step, step).metrics["learning_rate"] for step in (0, 1, 2, 3)]
    assert rates == pytest.approx([0.005, 0.01, 0.015, 0.02])


def test_a_critic_needs_hidden_states(make_config, make_trainer):
    config = make_config(algorithm={"name": "ppo"})
    with pytest.raises(ConfigError, match="choose an algorithm without one, such as grpo"):
        make_trainer(config)


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
    masters = trainer.parameters.masters
    assert masters.arrays
    assert all(name.endswith(("lora_a", "lora_b")) for name in masters.arrays)
    embedding = np.array(policy.model.model.embed_tokens.weight)
    before = {name: np.array(array) for name, array in masters.arrays.items()}
    for step in range(2):
        assert trainer.step(tiny_batch, step, step).skipped == ""
    for name, array in masters.arrays.items():
        assert abs(np.array(array) - before[name]).max() > 1e-3
    np.testing.assert_array_equal(np.array(policy.model.model.embed_tokens.weight), embedding)


def test_recomputed_activations_give_the_same_gradient(make_config, tiny_batch):
    norms, masters, layers = [], [], []
    for recompute in (False, True):
        section = {"grad_checkpoint": recompute, "optimizer": {"learning_rate": 1e-3}}
        config = make_config(learner=section)
        trainer = Trainer(load_policy(config), make_algorithm(config.algorithm), config)
        norms.append(trainer.step(tiny_batch, 0, 0).metrics["grad_norm"])
        masters.append(trainer.parameters.masters.arrays)
        layers.append(type(trainer.policy.model.layers[0]).__call__)
    assert layers[0] is not layers[1]
    assert norms[0] > 0
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)
    for name, array in masters[0].items():
        np.testing.assert_allclose(np.array(masters[1][name]), np.array(array), atol=1e-6)


@pytest.mark.parametrize("shape", [(), (4,), (5, 29), (1, 5)])
def test_advantages_of_a_wrong_shape_are_refused(config, make_trainer, batch, shape):
    grpo = make_algorithm(config.algorithm)
    trainer = make_trainer(config, replace(grpo, advantages=lambda _: np.ones(shape, np.float32)))
    with pytest.raises(ConfigError, match=r"wanted \[5\] or \[5, 30\]"):
        trainer.step(batch, 0, 0)
