"""Chunked logprobs and entropies: by hand, against whole arrays, and in how much memory."""

import math

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from learner.forward.logprobs import chunked_logprobs

LN2 = math.log(2.0)


def as_logits(hidden_ND, parameters):
    """A head for which hidden states are logits."""
    return hidden_ND


def linear(hidden_ND, parameters):
    weight_VD, bias_V = parameters
    return hidden_ND @ weight_VD.T + bias_V


def two_tokens(temperature=1.0, entropy_gradient=True):
    """Words with probabilities 1/2 1/4 1/4 and 1/4 1/4 1/2 at the temperature; targets 0 and 1."""
    logits_NV = temperature * mx.log(mx.array([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]]))

    def figures(hidden_ND):
        return chunked_logprobs(
            as_logits,
            hidden_ND,
            [],
            mx.array([0, 1]),
            temperature=temperature,
            chunk_tokens=1,
            entropy_gradient=entropy_gradient,
        )

    return logits_NV, figures


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_logprobs_and_entropies_by_hand(temperature):
    # entropy: 1/2 ln 2 + 2 (1/4 ln 4) = 3/2 ln 2
    logits_NV, figures = two_tokens(temperature)
    logprobs_N, entropy_N = figures(logits_NV)
    assert logprobs_N.tolist() == pytest.approx([-LN2, -2 * LN2], abs=1e-6)
    assert entropy_N.tolist() == pytest.approx([1.5 * LN2, 1.5 * LN2], abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_gradient_of_logprobs_by_hand(temperature):
    # onehot - p, over the temperature; the second token counts 3 times
    logits_NV, figures = two_tokens(temperature)
    gradient = mx.grad(lambda z: (figures(z)[0] * mx.array([1.0, 3.0])).sum())(logits_NV)
    wanted = np.array([[0.5, -0.25, -0.25], [-0.75, 2.25, -1.5]]) / temperature
    np.testing.assert_allclose(np.array(gradient), wanted, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_the_gradient_of_entropies_by_hand(temperature):
    # -p (log p + H): -1/2 (-ln 2 + 3/2 ln 2) = -ln 2 / 4, -1/4 (-2 ln 2 + 3/2 ln 2) = ln 2 / 8
    logits_NV, figures = two_tokens(temperature)
    gradient = mx.grad(lambda z: figures(z)[1].sum())(logits_NV)
    by_hand = np.array([[-0.25, 0.125, 0.125], [0.125, 0.125, -0.25]]) * LN2 / temperature
    np.testing.assert_allclose(np.array(gradient), by_hand, atol=1e-6)


def test_entropies_have_no_gradient_unless_it_is_asked_for():
    logits_NV, figures = two_tokens(entropy_gradient=False)
    assert not np.array(mx.grad(lambda z: figures(z)[1].sum())(logits_NV)).any()
    by_logprob = mx.grad(lambda z: figures(z)[0].sum())(logits_NV)
    assert by_logprob[0].tolist() == pytest.approx([0.5, -0.25, -0.25], abs=1e-6)


def random_problem(num_tokens=7, width=5, vocabulary=11):
    rng = np.random.default_rng(0)

    def normal(*shape):
        return mx.array(rng.normal(size=shape).astype(np.float32))

    inputs = [normal(num_tokens, width), normal(vocabulary, width), normal(vocabulary)]
    targets_N = mx.array(rng.integers(0, vocabulary, num_tokens))
    return inputs, targets_N, normal(num_tokens), normal(num_tokens)


def chunked_loss(targets_N, by_logprob_N, by_entropy_N, chunk_tokens):
    def loss(hidden_ND, *parameters):
        logprobs_N, entropy_N = chunked_logprobs(
            linear,
            hidden_ND,
            list(parameters),
            targets_N,
            temperature=0.7,
            chunk_tokens=chunk_tokens,
            entropy_gradient=True,
        )
        return (by_logprob_N * logprobs_N + by_entropy_N * entropy_N).sum()

    return loss


@pytest.mark.parametrize("chunk_tokens", [1, 2, 3, 6, 7, 8, 100])
def test_the_size_of_chunks_changes_neither_figures_nor_gradients(chunk_tokens):
    inputs, targets_N, by_logprob_N, by_entropy_N = random_problem()

    def plain(hidden_ND, *parameters):
        logs_NV = nn.log_softmax(linear(hidden_ND, parameters) / 0.7, axis=-1)
        picked_N = mx.take_along_axis(logs_NV, targets_N[:, None], -1)[:, 0]
        entropy_N = -(mx.exp(logs_NV) * logs_NV).sum(axis=-1)
        return (by_logprob_N * picked_N + by_entropy_N * entropy_N).sum()

    loss = chunked_loss(targets_N, by_logprob_N, by_entropy_N, chunk_tokens)
    every = [0, 1, 2]
    wanted, wanted_gradients = mx.value_and_grad(plain, argnums=every)(*inputs)
    found, gradients = mx.value_and_grad(loss, argnums=every)(*inputs)
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)
    for array, expected in zip(gradients, wanted_gradients, strict=True):
        np.testing.assert_allclose(np.array(array), np.array(expected), atol=2e-6)


def test_gradients_are_the_slopes_that_finite_differences_find():
    # in fp32, with steps of 0.01: the differences are good to about 1e-3
    inputs, targets_N, by_logprob_N, by_entropy_N = random_problem(num_tokens=3)
    loss = chunked_loss(targets_N, by_logprob_N, by_entropy_N, chunk_tokens=2)
    gradients = mx.grad(loss, argnums=[0, 1, 2])(*inputs)
    rng = np.random.default_rng(1)
    for number, gradient in enumerate(gradients):
        direction = mx.array(rng.normal(size=gradient.shape).astype(np.float32))
        there, back = list(inputs), list(inputs)
        there[number] = inputs[number] + 0.01 * direction
        back[number] = inputs[number] - 0.01 * direction
        slope = float(loss(*there) - loss(*back)) / 0.02
        assert float((gradient * direction).sum()) == pytest.approx(slope, rel=5e-3, abs=5e-3)


def test_logits_far_from_0_give_finite_figures():
    # p = 1, e^-2000 = 0: logprobs 0 and -2000; both entropies are 0
    figures = chunked_logprobs(
        as_logits,
        mx.array([[1000.0, -1000.0], [1000.0, -1000.0]]),
        [],
        mx.array([0, 1]),
        temperature=1.0,
        chunk_tokens=8,
        entropy_gradient=True,
    )
    assert [figure.tolist() for figure in figures] == [[0.0, -2000.0], [0.0, 0.0]]


def peak_bytes(num_tokens, chunk_tokens, vocabulary=20_000):
    """Memory that a loss and its gradients take at most, beyond what goes in."""
    inputs, targets_N, by_logprob_N, by_entropy_N = random_problem(num_tokens, 4, vocabulary)
    loss = chunked_loss(targets_N, by_logprob_N, by_entropy_N, chunk_tokens)
    mx.eval(inputs, targets_N, by_logprob_N, by_entropy_N)
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(mx.value_and_grad(loss, argnums=[0, 1, 2])(*inputs))
    return mx.get_peak_memory() - before


def test_memory_does_not_grow_with_the_tokens():
    small, large = (peak_bytes(num_tokens, chunk_tokens=8) for num_tokens in (128, 512))
    assert large < 1.1 * small
    assert large < 0.4 * 512 * 20_000 * 4  # the logits alone, once, would take 2.5 times as much
    assert large < 0.1 * peak_bytes(512, chunk_tokens=512)
