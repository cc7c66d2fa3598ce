"""Loss and gradient summed over microbatches, on a bigram whose gradient is known."""

from itertools import pairwise

import mlx.core as mx
import numpy as np
import pytest

from learner.algorithm import Algorithm, StepTotals
from learner.batch import Column, microbatches
from learner.forward.forward import Forward
from learner.gradients import accumulate, token_batch
from protocol.config_learner import LearnerSection

TOTALS = StepTotals(num_tokens=10, num_sequences=3, max_completion_tokens=8)


@pytest.fixture
def samples(make_sample):
    return [
        make_sample((1, 2), (3, 4, 5)),
        make_sample((1, 2), (0, 5), sample=1),
        make_sample((4,), (1, 3, 2, 5), sample=2),
    ]


def weighted_logprobs(tokens, totals):
    """-sum(A logprob) / num_tokens, and a metric."""
    weighted_BT = mx.where(tokens.mask_BT, tokens.advantages * tokens.logprobs_BT, 0.0)
    metrics = {"advantage": mx.where(tokens.mask_BT, tokens.advantages, 0.0).sum()}
    return -weighted_BT.sum() / totals.num_tokens, metrics


def algorithm_of(loss):
    return Algorithm(advantages=lambda batch: np.zeros(len(batch.rewards_B), np.float32), loss=loss)


def forward_of(policy):
    return Forward(policy.model, LearnerSection(), temperature=0.7, entropy_gradient=True)


def parts_of(samples, token_budget, advantages=(2.0, -1.0, 0.5), **extra):
    by_token: list[Column | None] = [
        np.full(len(sample.rollout.token_ids), advantage, np.float32)
        for sample, advantage in zip(samples, advantages, strict=True)
    ]
    return microbatches(
        samples,
        range(len(samples)),
        policy_version=0,
        token_budget=token_budget,
        share_prompts=False,
        extra={"advantages": by_token, **extra},
    )


def gradient_by_hand(policy, samples, advantages=(2.0, -1.0, 0.5)):
    """-A (onehot - p) / temperature / num_tokens, in the row of the token before."""
    table = np.array(policy.model.table, np.float64) / 0.7
    p = np.exp(table) / np.exp(table).sum(axis=-1, keepdims=True)
    gradient = np.zeros_like(table)
    for sample, advantage in zip(samples, advantages, strict=True):
        tokens = [*sample.prompt_ids, *sample.rollout.token_ids][len(sample.prompt_ids) - 1 :]
        for before, token in pairwise(tokens):
            gradient[before] -= advantage * (np.eye(6)[token] - p[before]) / 0.7 / 10
    return gradient


@pytest.mark.parametrize(("token_budget", "num_parts"), [(1, 3), (16, 2), (1000, 1)])
def test_however_a_step_is_cut_its_sums_are_those_by_hand(
    make_bigram, by_hand, samples, token_budget, num_parts
):
    policy = make_bigram()
    parts = parts_of(samples, token_budget)
    assert len(parts) == num_parts
    found = accumulate(
        policy.model,
        forward_of(policy),
        algorithm_of(weighted_logprobs),
        {"policy": policy.trained()},
        parts,
        TOTALS,
    )
    logprobs, entropies = zip(*(by_hand(policy, sample) for sample in samples), strict=True)
    loss = -sum(a * each.sum() for a, each in zip((2.0, -1.0, 0.5), logprobs, strict=True)) / 10
    assert found.loss == pytest.approx(loss, rel=1e-5)
    assert found.num_tokens == 3 + 2 + 4
    # 3 * 2 - 2 * 1 + 4 * 0.5
    assert found.sums["advantage"] == pytest.approx(6.0)
    assert found.sums["entropy"] == pytest.approx(np.concatenate(entropies).sum(), rel=1e-5)
    gradient = np.array(found.arrays["policy"]["table"])
    np.testing.assert_allclose(gradient, gradient_by_hand(policy, samples), atol=1e-6)
    for index, wanted in enumerate(logprobs):
        np.testing.assert_allclose(found.logprobs[index], wanted, atol=1e-5)


def test_the_model_is_left_with_the_arrays_that_it_had(make_bigram, samples):
    policy = make_bigram()
    trained = policy.trained()
    algorithm = algorithm_of(weighted_logprobs)
    accumulate(
        policy.model,
        forward_of(policy),
        algorithm,
        {"policy": trained},
        parts_of(samples, 16),
        TOTALS,
    )
    assert policy.trained()["table"] is trained["table"]


def test_gradients_of_a_model_in_half_precision_are_summed_in_fp32(make_bigram, samples):
    policy = make_bigram()
    policy.model.table = policy.model.table.astype(mx.bfloat16)
    found = accumulate(
        policy.model,
        forward_of(policy),
        algorithm_of(weighted_logprobs),
        {"policy": policy.trained()},
        parts_of(samples, 1),
        TOTALS,
    )
    assert found.arrays["policy"]["table"].dtype == mx.float32


def test_an_entropy_that_a_loss_reads_has_a_gradient_and_the_metric_has_none(make_bigram, samples):
    # without any loss, the metric alone must give no gradient
    policy = make_bigram()

    def found(loss):
        trained = {"policy": policy.trained()}
        parts = parts_of(samples, 1000)
        algorithm = algorithm_of(loss)
        gradients = accumulate(policy.model, forward_of(policy), algorithm, trained, parts, TOTALS)
        return np.array(gradients.arrays["policy"]["table"])

    assert not found(lambda tokens, totals: (0.0 * tokens.logprobs_BT.sum(), {})).any()
    assert found(lambda tokens, totals: (tokens.entropy_BT.sum(), {})).any()


def test_in_a_batchs_only_step_the_proximal_logprobs_are_the_current_ones_without_gradient(
    make_bigram, samples
):
    policy = make_bigram()
    [part] = parts_of(samples, 1000)
    tokens = token_batch(forward_of(policy), part, None)
    assert mx.array_equal(tokens.proximal_logprobs_BT, tokens.logprobs_BT)
    assert (tokens.ref_logprobs_BT, tokens.values_BT, tokens.old_values_BT) == (None, None, None)

    def ratio(tokens, totals):
        return (tokens.logprobs_BT - tokens.proximal_logprobs_BT).sum(), {}

    def logprob(tokens, totals):
        return tokens.logprobs_BT.sum(), {}

    by_ratio, by_logprob = (
        accumulate(
            policy.model,
            forward_of(policy),
            algorithm_of(loss),
            {"policy": policy.trained()},
            [part],
            TOTALS,
        ).arrays["policy"]["table"]
        for loss in (ratio, logprob)
    )
    assert mx.array_equal(by_ratio, by_logprob)


def test_figures_from_before_the_step_are_what_the_loss_sees(make_bigram, samples):
    names = ("proximal_logprobs", "ref_logprobs", "old_values", "returns")
    extra = {
        name: [np.full(len(s.rollout.token_ids), number + 1.0) for s in samples]
        for number, name in enumerate(names)
    }
    [part] = parts_of(samples, 1000, **extra)
    tokens = token_batch(forward_of(make_bigram()), part, None)
    seen = (
        tokens.proximal_logprobs_BT,
        tokens.ref_logprobs_BT,
        tokens.old_values_BT,
        tokens.returns_BT,
    )
    for number, array in enumerate(seen):
        assert array is not None
        np.testing.assert_array_equal(np.array(array), (number + 1.0) * np.array(part.mask_BT))
