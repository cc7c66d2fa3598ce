"""Several optimizer steps on one batch: which samples each sees, and all of them or none."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from learner.algorithm import make_algorithm
from learner.step import Trainer
from protocol.policy import load_policy

PROMPTS = ((7, 8, 16, 9, 20, 11, 12, 13, 14, 15), (9, 8))


@pytest.fixture
def batch(make_sample):
    """Two groups of three, one of them masked; first tokens tell the samples apart."""
    return [
        make_sample(
            PROMPTS[group],
            (10 + 3 * group + number, 11, *[12] * number, 5),
            reward=None if (group, number) == (1, 2) else float(number == 0),
            group=group,
            sample=number,
        )
        for group in range(2)
        for number in range(3)
    ]


FIRST_TOKENS = [10, 11, 12, 13, 14]
"""Of the samples that are not masked, in order."""


class Seen:
    """An algorithm's loss that notes what each microbatch shows it; the nth may be broken."""

    def __init__(self, algorithm, broken=None):
        self.algorithm = algorithm
        self.broken = broken
        self.calls = []

    def __call__(self, tokens, totals):
        loss, metrics = self.algorithm.loss(tokens, totals)
        self.calls.append(totals)
        return (loss * mx.nan if len(self.calls) - 1 == self.broken else loss), metrics


def make_trainer(make_config, *, epochs=2, minibatches=2, broken=None, name="ppo", **learner):
    section = {"optimizer": {"learning_rate": 0.01}, "critic_learning_rate": 0.01, **learner}
    config = make_config(learner=section, algorithm={"name": name})
    made = replace(make_algorithm(config.algorithm), epochs=epochs, minibatches=minibatches)
    seen = Seen(made, broken)
    return Trainer(load_policy(config), replace(made, loss=seen), config), seen


def bits(trainer):
    """Everything that a step may change: masters, critic, optimizers, and the model."""
    arrays = {**trainer.parameters.state(), **trainer.policy.trained()}
    return {name: np.array(array).tobytes() for name, array in arrays.items()}


def num_steps(optimizer):
    return int(np.array(optimizer.state["step"]))


@pytest.mark.parametrize(("epochs", "minibatches"), [(1, 1), (2, 2), (3, 1), (1, 5)])
def test_each_epoch_takes_a_step_a_minibatch(make_config, batch, epochs, minibatches):
    trainer, seen = make_trainer(make_config, epochs=epochs, minibatches=minibatches)
    result = trainer.step(batch, 0, 0)
    assert result.skipped == ""
    wanted = epochs * minibatches
    assert num_steps(trainer.parameters.optimizer) == wanted
    assert trainer.parameters.critic is not None
    assert num_steps(trainer.parameters.critic.optimizer) == wanted
    # its denominators are those of a step's own samples; tokens of the valid: 3 4 5, 3 4
    assert len(seen.calls) == wanted
    assert sum(totals.num_sequences for totals in seen.calls) == 5 * epochs
    assert sum(totals.num_tokens for totals in seen.calls) == 19 * epochs


def test_more_steps_than_samples_leave_some_without_any(make_config, batch):
    trainer, seen = make_trainer(make_config, epochs=1, minibatches=8)
    assert trainer.step(batch, 0, 0).skipped == ""
    assert len(seen.calls) == 5
    assert num_steps(trainer.parameters.optimizer) == 5


def test_every_epoch_sees_each_sample_once_in_an_order_of_its_own(make_config, batch):
    trainer, _ = make_trainer(make_config, epochs=4, minibatches=2)
    valid = [0, 1, 2, 3, 4]
    shares = list(trainer._shares(valid, 0))  # pyright: ignore[reportPrivateUsage]
    epochs = [shares[i : i + 2] for i in range(0, 8, 2)]
    assert all(sorted(first + second) == valid for first, second in epochs)
    assert len({tuple(first) for first, _ in epochs}) > 1
    again = list(trainer._shares(valid, 0))  # pyright: ignore[reportPrivateUsage]
    other = list(trainer._shares(valid, 1))  # pyright: ignore[reportPrivateUsage]
    assert again == shares  # a resumed run goes on alike
    assert other != shares


def test_proximal_logprobs_are_those_from_before_the_first_step(make_config, batch):
    trainer, _ = make_trainer(make_config)
    before = trainer.logprobs(batch, 1.0)
    rows, moved = [], []
    ppo = trainer._algorithm  # pyright: ignore[reportPrivateUsage]

    def loss(tokens, totals):
        rows.append((tokens.proximal_logprobs_BT, tokens.mask_BT))
        moved.append(mx.abs(tokens.logprobs_BT - tokens.proximal_logprobs_BT).max())
        return ppo.loss(tokens, totals)

    trainer._algorithm = replace(ppo, loss=loss)  # pyright: ignore[reportPrivateUsage]
    result = trainer.step(batch, 0, 0)
    found = sorted(
        tuple(row[: int(mask.sum())].tolist())
        for proximal_BT, mask_BT in rows
        for row, mask in zip(proximal_BT, mask_BT, strict=True)
    )
    wanted = sorted(2 * [tuple(before[index].tolist()) for index in range(5)])  # 2 epochs
    assert len(found) == len(wanted)
    for row, expected in zip(found, wanted, strict=True):
        np.testing.assert_allclose(row, expected, atol=1e-5)
    assert moved[0].item() < 1e-5
    assert moved[-1].item() > 1e-3
    for index, logprobs in enumerate(result.logprobs):
        if index == 5:
            assert logprobs is None
        else:
            assert logprobs is not None
            np.testing.assert_allclose(logprobs, before[index], atol=1e-5)


@pytest.mark.parametrize("broken", [0, 1, 3])
def test_a_number_that_is_not_finite_undoes_the_steps_before_it(make_config, batch, broken):
    trainer, seen = make_trainer(make_config)
    assert trainer.step(batch, 0, 0).skipped == ""  # so that there are moments to lose
    before = bits(trainer)
    seen.broken = len(seen.calls) + broken
    result = trainer.step(batch, 1, 1)
    assert result.skipped == "non_finite"
    assert len(seen.calls) == seen.broken + 1  # and nothing is computed after it
    assert bits(trainer) == before
    assert trainer.step(batch, 2, 1).skipped == ""
    assert bits(trainer) != before


def test_a_step_that_was_undone_leaves_no_trace_in_those_after_it(make_config, batch):
    straight, _ = make_trainer(make_config)
    around, seen = make_trainer(make_config)
    for trainer in (straight, around):
        trainer.step(batch, 0, 0)
    seen.broken = len(seen.calls) + 1
    assert around.step(batch, 1, 1).skipped == "non_finite"
    seen.broken = None
    for trainer in (straight, around):
        assert trainer.step(batch, 2, 1).skipped == ""
    assert bits(around) == bits(straight)


def test_parameters_that_overflow_undo_the_step(make_config, batch):
    # the loss and its gradient are finite; 10 * 3e38, by which weights decay, is not
    section = {"optimizer": {"learning_rate": 3e38, "weight_decay": 10.0}}
    trainer, _ = make_trainer(make_config, epochs=1, minibatches=1, name="grpo", **section)
    before = bits(trainer)
    assert trainer.step(batch, 0, 0).skipped == "non_finite"
    assert bits(trainer) == before


@pytest.mark.parametrize("name", ["grpo", "ppo"])
def test_a_state_that_was_saved_goes_on_with_the_same_bits(make_config, batch, name):
    through, _ = make_trainer(make_config, name=name)
    resumed, _ = make_trainer(make_config, name=name)
    through.step(batch, 0, 0)
    resumed.parameters.restore(through.parameters.state())
    assert bits(resumed) == bits(through)
    for trainer in (through, resumed):
        for step in (1, 2):
            assert trainer.step(batch, step, step).skipped == ""
    assert bits(resumed) == bits(through)


def test_the_critic_learns_what_the_rewards_are(make_config, make_sample):
    # every completion gets 1: with V = 0, returns are 0.95 and 1, and the loss is half of R^2
    samples = [make_sample(PROMPTS[0], (10 + i, 5), reward=1.0, sample=i) for i in range(4)]
    trainer, _ = make_trainer(make_config, epochs=1, minibatches=1, critic_learning_rate=0.05)
    losses = [trainer.step(samples, step, step).metrics["value_loss"] for step in range(8)]
    assert losses[0] == pytest.approx((0.5 * 0.95**2 + 0.5) / 2, rel=1e-4)
    assert losses[-1] < 0.5 * losses[0]


def test_metrics_are_means_over_steps_and_tokens(make_config, batch):
    trainer, _ = make_trainer(make_config)
    metrics = trainer.step(batch, 0, 0).metrics
    assert {"loss", "grad_norm", "critic_grad_norm", "entropy", "value_loss"} <= metrics.keys()
    assert 0 < metrics["entropy"] < np.log(35)
    # rewards 1, 0, 0 and 1, 0: token means of returns, 3 and 3 tokens of 19 at reward 1
    assert metrics["return"] == pytest.approx(
        sum(0.95**t for n in (3, 3) for t in range(n)) / 19, rel=1e-4
    )


def test_a_batch_without_any_reward_is_skipped_with_a_critic_too(make_config, make_sample):
    trainer, _ = make_trainer(make_config)
    before = bits(trainer)
    result = trainer.step([make_sample(reward=None), make_sample(reward=None, sample=1)], 0, 0)
    assert result.skipped == "masked"
    assert bits(trainer) == before
