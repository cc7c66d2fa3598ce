"""Logprobs and entropies of tokens, their logits in memory for one chunk of tokens at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import mlx.core as mx

Head = Callable[[mx.array, list[mx.array]], mx.array]
"""(hidden_ND, parameters) -> logits_NV in fp32."""


def chunked_logprobs(
    head: Head,
    hidden_ND: mx.array,
    parameters: list[mx.array],
    targets_N: mx.array,
    *,
    temperature: float,
    chunk_tokens: int,
    entropy_gradient: bool,
) -> tuple[mx.array, mx.array]:
    """Logprob of each target and entropy at each token, at a temperature.

        z = head(hidden) / temperature      p = softmax(z)
        logprob = z[target] - logsumexp(z)      entropy = -sum_v p_v log p_v
        d logprob / d z = onehot(target) - p    d entropy / d z = -p (log p + entropy)

    The gradient computes the logits once more, so that no [N, V] array is kept for it.

    Args:
        head: the model's.
        hidden_ND: what the head reads; gradients flow.
        parameters: what of the head is trained; gradients flow.
        targets_N: the token that followed.
        temperature: divides the logits.
        chunk_tokens: rows of the logits that stand in memory at once.
        entropy_gradient: let gradients flow through the entropy as well, at some cost.

    Returns:
        [N] logprobs and [N] entropies, in nats.
    """
    cuts = list(range(chunk_tokens, hidden_ND.shape[0], chunk_tokens))
    targets = list(mx.split(targets_N, cuts))
    chunks = _Chunks(head, cuts, targets, temperature, entropy_gradient)
    function = mx.custom_function(chunks.figures)
    function.vjp(chunks.gradient)
    both_N2 = cast(mx.array, function(hidden_ND, *parameters))
    return both_N2[:, 0], both_N2[:, 1]


@dataclass(frozen=True)
class _Chunks:
    """A function of hidden states and parameters, and its gradient, both chunk by chunk."""

    head: Head
    cuts: list[int]
    """Where chunks begin, without the first."""
    targets: list[mx.array]
    """Of each chunk."""
    temperature: float
    entropy_gradient: bool

    def figures(self, hidden_ND: mx.array, *parameters: mx.array) -> mx.array:
        """[N, 2] logprob and entropy."""
        out: list[mx.array] = []
        for part_ND, target_N in zip(mx.split(hidden_ND, self.cuts), self.targets, strict=True):
            after_ND = _after(part_ND, out[-1:])
            z_NV = self.head(after_ND, list(parameters)) / self.temperature
            out.append(_figures(z_NV, target_N))
        return mx.concatenate(out)

    def gradient(
        self,
        primals: mx.array | Sequence[mx.array],
        cotangent_N2: mx.array,
        _output: mx.array,
    ) -> tuple[mx.array, ...]:
        """Of hidden states and of each parameter."""
        # of a single argument, mlx gives the array itself
        hidden_ND, *parameters = [primals] if isinstance(primals, mx.array) else primals
        hidden, cotangents = mx.split(hidden_ND, self.cuts), mx.split(cotangent_N2, self.cuts)
        by_hidden: list[mx.array] = []
        by_parameter: list[mx.array] = []
        for part_ND, target_N, given_N2 in zip(hidden, self.targets, cotangents, strict=True):
            after_ND = _after(part_ND, by_hidden[-1:] + by_parameter)
            found_ND, *found = self._chunk_gradient(after_ND, parameters, target_N, given_N2)
            by_hidden.append(found_ND)
            by_parameter = _sum(by_parameter, found)
        return (mx.concatenate(by_hidden), *by_parameter)

    def _chunk_gradient(
        self,
        hidden_ND: mx.array,
        parameters: list[mx.array],
        targets_N: mx.array,
        cotangent_N2: mx.array,
    ) -> list[mx.array]:
        z_NV = self.head(hidden_ND, parameters) / self.temperature
        slope_NV = _logits_gradient(z_NV, targets_N, cotangent_N2, self.entropy_gradient)
        _, found = mx.vjp(
            lambda hidden_ND, *parameters: self.head(hidden_ND, list(parameters)),
            [hidden_ND, *parameters],
            [slope_NV / self.temperature],
        )
        return found


def _after(array: mx.array, done: list[mx.array]) -> mx.array:
    """The array, computed only once `done` is: or the chunks' logits would all stand at once."""
    return mx.depends([array], done)[0] if done else array


def _sum(totals: list[mx.array], found: list[mx.array]) -> list[mx.array]:
    if not totals:
        return found
    return [total + array for total, array in zip(totals, found, strict=True)]


def _figures(z_NV: mx.array, targets_N: mx.array) -> mx.array:
    """[N, 2] logprob and entropy: one array, so that z has one reader and goes at once."""
    normalizer_N1 = mx.logsumexp(z_NV, axis=-1, keepdims=True)
    picked_N1 = mx.take_along_axis(z_NV, targets_N[:, None], axis=-1)
    expected_N1 = (mx.exp(z_NV - normalizer_N1) * z_NV).sum(axis=-1, keepdims=True)
    return mx.concatenate([picked_N1 - normalizer_N1, normalizer_N1 - expected_N1], axis=-1)


def _logits_gradient(
    z_NV: mx.array, targets_N: mx.array, cotangent_N2: mx.array, entropy_gradient: bool
) -> mx.array:
    by_logprob_N1, by_entropy_N1 = cotangent_N2[:, :1], cotangent_N2[:, 1:]
    log_p_NV = z_NV - mx.logsumexp(z_NV, axis=-1, keepdims=True)
    p_NV = mx.exp(log_p_NV)
    slope_NV = by_logprob_N1
    if entropy_gradient:
        entropy_N1 = -(p_NV * log_p_NV).sum(axis=-1, keepdims=True)
        slope_NV = by_logprob_N1 + by_entropy_N1 * (log_p_NV + entropy_N1)
    rows_N = mx.arange(z_NV.shape[0])
    return (-p_NV * slope_NV).at[rows_N, targets_N].add(by_logprob_N1[:, 0])
