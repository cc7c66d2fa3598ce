"""logits -> the next tokens and their behaviour logprobs.

A token is drawn on two levels: first a block of the vocabulary by its sum, then a token of the
block. That takes one pass of `exp` and two random numbers a row; the Gumbel trick takes a random
number and two logarithms for every token of the vocabulary. The same few lines run on MLX, without
leaving the device, and on NumPy, whose `exp` is several times faster than MLX's on an x86 CPU.
"""

from types import ModuleType
from typing import Any, NamedTuple, Protocol

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MAX_BLOCK = 512


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

    A row's randomness depends on its own (seed, position) alone, not on its neighbours. On a GPU
    the result is lazy; on the CPU it is there.

    Args:
        logits_BV: [B, V] fp32.
        temperatures_B: [B]; 0 takes the likeliest token.
        seeds_B: [B] one seed a completion.
        positions_B: [B] index of the token in its completion.
    """
    uniforms_B2 = _uniforms(seeds_B, positions_B)
    if mx.default_device().type == mx.gpu:
        drawn = draw(mx, logits_BV, mx.array(temperatures_B), mx.array(uniforms_B2))
        return Sampled(drawn[0].astype(mx.int32), drawn[1])
    tokens_B, logprobs_B = draw(np, np.array(logits_BV, copy=False), temperatures_B, uniforms_B2)
    return Sampled(mx.array(tokens_B.astype(np.int32)), mx.array(logprobs_B))


def draw(
    xp: ModuleType,
    logits_BV: Any,  # noqa: ANN401
    temperatures_B: Any,  # noqa: ANN401
    uniforms_B2: Any,  # noqa: ANN401
) -> tuple[Any, Any]:
    """Give tokens and logprobs, both [B], in arrays of `xp`.

        block ~ sums of softmax over blocks;  token ~ softmax within the block

    Args:
        xp: numpy or mlx.core; every array is of it.
        logits_BV: [B, V] fp32.
        temperatures_B: [B]; 0 takes the likeliest token.
        uniforms_B2: [B, 2] in [0, 1).
    """
    greedy_B = temperatures_B == 0
    divisors_B1 = xp.where(greedy_B, xp.ones_like(temperatures_B), temperatures_B)[:, None]
    scaled_BV = logits_BV / divisors_B1
    peaks_B1 = xp.max(scaled_BV, axis=-1, keepdims=True)
    blocks_BNS = _in_blocks(xp, xp.exp(scaled_BV - peaks_B1))
    sums_BN = xp.sum(blocks_BNS, axis=-1)
    blocks_B1 = _pick(xp, sums_BN, uniforms_B2[:, :1])
    within_BS = xp.take_along_axis(blocks_BNS, blocks_B1[:, :, None], axis=1)[:, 0]
    places_B1 = _pick(xp, within_BS, uniforms_B2[:, 1:])
    drawn_B1 = blocks_B1 * blocks_BNS.shape[2] + places_B1
    likeliest_B1 = xp.argmax(scaled_BV, axis=-1)[:, None]
    tokens_B1 = xp.where(greedy_B[:, None], likeliest_B1, drawn_B1)
    picked_B1 = xp.take_along_axis(scaled_BV, tokens_B1, axis=-1)
    totals_B1 = xp.sum(sums_BN, axis=-1, keepdims=True)
    # rounding can leave the logprob of a certain token a hair above 0
    logprobs_B1 = xp.minimum(picked_B1 - peaks_B1 - xp.log(totals_B1), xp.zeros_like(peaks_B1))
    return tokens_B1[:, 0], logprobs_B1[:, 0]


def _in_blocks(xp: ModuleType, weights_BV: Any) -> Any:  # noqa: ANN401
    """[B, V] -> [B, N, S], with weights of 0 behind the last where V has no fitting divisor."""
    B, V = weights_BV.shape
    size = next((s for s in range(min(V, _MAX_BLOCK), _MAX_BLOCK // 8, -1) if V % s == 0), 0)
    if not size:
        size = min(V, _MAX_BLOCK)
        missing = -V % size
        weights_BV = xp.concatenate([weights_BV, xp.zeros_like(weights_BV[:, :missing])], axis=1)
    return weights_BV.reshape(B, -1, size)


def _pick(xp: ModuleType, weights_BN: Any, uniforms_B1: Any) -> Any:  # noqa: ANN401
    """[B, 1] an index for each row, drawn in proportion to its weights."""
    sums_BN = xp.cumsum(weights_BN, axis=-1)
    passed_B1 = xp.sum(sums_BN <= uniforms_B1 * sums_BN[:, -1:], axis=-1, keepdims=True)
    places_B1 = xp.minimum(passed_B1, weights_BN.shape[1] - 1)
    # a parallel cumsum may fall by a rounding error from one place to the next, and so lead to a
    # place without weight: any that has some will do
    weights_B1 = xp.take_along_axis(weights_BN, places_B1, axis=-1)
    likeliest_B1 = xp.argmax(weights_BN, axis=-1)[:, None]
    return xp.where(weights_B1 > 0, places_B1, likeliest_B1)


def completion_seed(lease_seed: int, sample_index: int) -> int:
    """Seed of one completion of a group."""
    mixed = splitmix64(np.array([lease_seed], np.uint64), np.array([sample_index], np.uint64))
    return int(mixed[0])


def _uniforms(seeds_B: NDArray[np.uint64], positions_B: NDArray[np.uint64]) -> NDArray[np.float32]:
    """[B, 2] multiples of 2**-24 in [0, 1), independent of each other."""
    bits_B = splitmix64(seeds_B, positions_B)
    parts = [bits_B >> np.uint64(40), (bits_B >> np.uint64(16)) & np.uint64(2**24 - 1)]
    return np.stack(parts, axis=1).astype(np.float32) * np.float32(2.0**-24)


def splitmix64(seeds: NDArray[np.uint64], counters: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's output function at `seed + (counter + 1) * golden ratio`, modulo 2**64."""
    z = seeds + (counters + np.uint64(1)) * _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
