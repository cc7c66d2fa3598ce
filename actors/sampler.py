"""logits -> the next tokens and their behaviour logprobs."""

from typing import NamedTuple, Protocol

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from protocol.policy import log_softmax

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Sampled(NamedTuple):
    """One decode step's outcome for B rows."""

    tokens_B: mx.array
    """int32 token ids."""
    logprobs_B: mx.array
    """fp32 nats, under the distribution that was sampled from (greedy: at temperature 1)."""


class Sampler(Protocol):
    """What the engine needs of a sampler."""

    def __call__(
        self,
        logits_BV: mx.array,
        temperatures_B: NDArray[np.float32],
        seeds_B: NDArray[np.uint64],
        positions_B: NDArray[np.uint64],
    ) -> Sampled:
        """Choose each row's next token."""
        ...


def sample(
    logits_BV: mx.array,
    temperatures_B: NDArray[np.float32],
    seeds_B: NDArray[np.uint64],
    positions_B: NDArray[np.uint64],
) -> Sampled:
    """Draw each row's token from softmax(logits / temperature); temperature 0 is greedy.

    A row's randomness depends on its own (seed, position) alone, not on its neighbours.

    Args:
        logits_BV: [B, V] fp32.
        temperatures_B: [B]; 0 takes the likeliest token.
        seeds_B: [B] one seed a completion.
        positions_B: [B] index of the token in its completion.
    """
    greedy_B = temperatures_B == 0.0
    divisors = mx.array(np.where(greedy_B, np.float32(1.0), temperatures_B))
    logprobs_BV = log_softmax(logits_BV, divisors[:, None])
    if greedy_B.all():
        tokens_B = mx.argmax(logprobs_BV, axis=-1)
    else:
        keys_B2 = mx.array(_keys(seeds_B, positions_B))
        tokens_B = _categorical(logprobs_BV, keys_B2)
        if greedy_B.any():
            tokens_B = mx.where(mx.array(greedy_B), mx.argmax(logprobs_BV, axis=-1), tokens_B)
    picked_B = mx.take_along_axis(logprobs_BV, tokens_B[:, None], axis=-1)[:, 0]
    # rounding can leave the logprob of a certain token a hair above 0
    return Sampled(tokens_B.astype(mx.int32), mx.minimum(picked_B, 0.0))


_categorical = mx.vmap(lambda logprobs_V, key: mx.random.categorical(logprobs_V, key=key))


def completion_seed(lease_seed: int, sample_index: int) -> int:
    """Seed of one completion of a group."""
    mixed = splitmix64(np.array([lease_seed], np.uint64), np.array([sample_index], np.uint64))
    return int(mixed[0])


def _keys(seeds_B: NDArray[np.uint64], positions_B: NDArray[np.uint64]) -> NDArray[np.uint32]:
    return splitmix64(seeds_B, positions_B).view(np.uint32).reshape(-1, 2)


def splitmix64(seeds: NDArray[np.uint64], counters: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's output function at `seed + (counter + 1) * golden ratio`, modulo 2**64."""
    z = seeds + (counters + np.uint64(1)) * _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
