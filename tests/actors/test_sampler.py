import math

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.sampler import completion_seed, sample, splitmix64

LOGITS = np.random.default_rng(0).normal(0.0, 2.0, (6, 11)).astype(np.float32)
SEEDS = np.array([3, 3, 2**64 - 1, 7, 2**53, 0], np.uint64)
POSITIONS = np.array([0, 1, 2, 500_000, 4, 5], np.uint64)
TEMPERATURES = np.array([0.7, 1.0, 0.0, 1.3, 0.0, 0.7], np.float32)


def draw(rows, logits=LOGITS):
    rows = np.array(rows)
    sampled = sample(mx.array(logits[rows]), TEMPERATURES[rows], SEEDS[rows], POSITIONS[rows])
    return np.array(sampled.tokens_B).tolist(), np.array(sampled.logprobs_B).tolist()


def softmax64(logits, temperature):
    scaled = logits.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    return weights / weights.sum()


def draw_many(logits, temperature, seeds, positions):
    logits_BV = mx.broadcast_to(mx.array(logits), (len(seeds), len(logits)))
    temperatures = np.full(len(seeds), temperature, np.float32)
    return np.array(sample(logits_BV, temperatures, seeds, positions).tokens_B)


def chi_square(tokens, probabilities):
    expected = probabilities * len(tokens)
    return float(((np.bincount(tokens, minlength=len(expected)) - expected) ** 2 / expected).sum())


def test_splitmix64_gives_the_published_values():
    # Vigna's splitmix64.c, seeded with 0 and with 1234567
    from_0 = splitmix64(np.zeros(3, np.uint64), np.arange(3, dtype=np.uint64))
    assert [int(x) for x in from_0] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    from_1234567 = splitmix64(np.full(3, 1234567, np.uint64), np.arange(3, dtype=np.uint64))
    assert [int(x) for x in from_1234567] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_completions_of_neighbouring_groups_and_samples_have_different_seeds():
    seeds = {completion_seed(lease, index) for lease in range(64) for index in range(64)}
    assert len(seeds) == 64 * 64
    assert min(seeds) >= 0 and max(seeds) < 2**64


@given(st.permutations(range(6)).flatmap(lambda p: st.integers(1, 6).map(lambda n: p[:n])))
@settings(max_examples=30, deadline=None)
def test_a_rows_token_depends_on_its_own_seed_and_position_alone(rows):
    tokens, logprobs = draw(rows)
    for row, token, logprob in zip(rows, tokens, logprobs, strict=True):
        [alone], [alone_logprob] = draw([row])
        assert token == alone
        assert logprob == pytest.approx(alone_logprob, abs=1e-6)


def test_a_neighbours_logits_change_nothing():
    other = LOGITS.copy()
    other[1:] = -other[1:]
    assert draw(range(6))[0][0] == draw(range(6), other)[0][0]


def test_each_rows_logprob_is_that_of_the_tempered_softmax():
    tokens, logprobs = draw(range(6))
    for row, (token, logprob) in enumerate(zip(tokens, logprobs, strict=True)):
        temperature = float(TEMPERATURES[row]) or 1.0  # greedy rows: at temperature 1
        wanted = math.log(softmax64(LOGITS[row], temperature)[token])
        assert logprob == pytest.approx(wanted, abs=2e-6)


def test_greedy_rows_take_the_likeliest_token_among_sampled_neighbours():
    tokens, _ = draw(range(6))
    assert [tokens[2], tokens[4]] == LOGITS[[2, 4]].argmax(axis=-1).tolist()
    assert draw([2, 4])[0] == LOGITS[[2, 4]].argmax(axis=-1).tolist()


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
def test_frequencies_over_many_seeds_match_the_softmax(temperature):
    count = 20_000
    seeds = np.array([completion_seed(12, index) for index in range(count)], np.uint64)
    tokens = draw_many(LOGITS[0], temperature, seeds, np.zeros(count, np.uint64))
    # 10 degrees of freedom: 1 of 10,000 honest samplers is above 35.6; one 10 % too hot always is
    assert chi_square(tokens, softmax64(LOGITS[0], temperature)) < 35.6
    assert chi_square(tokens, softmax64(LOGITS[0], temperature * 1.1)) > 35.6


def test_frequencies_over_the_positions_of_one_completion_match_the_softmax():
    positions = np.arange(20_000, dtype=np.uint64)
    seeds = np.full(len(positions), completion_seed(12, 0), np.uint64)
    tokens = draw_many(LOGITS[0], 0.7, seeds, positions)
    assert chi_square(tokens, softmax64(LOGITS[0], 0.7)) < 35.6


def test_successive_tokens_of_a_completion_are_independent():
    positions = np.arange(20_001, dtype=np.uint64)
    seeds = np.full(len(positions), completion_seed(12, 1), np.uint64)
    coins = draw_many(np.zeros(2, np.float32), 1.0, seeds, positions)
    # two fair coins: each of the four pairs a quarter; 3 degrees of freedom
    assert chi_square(coins[:-1] * 2 + coins[1:], np.full(4, 0.25)) < 21.1


def test_a_certain_tokens_logprob_is_not_above_zero():
    logits = mx.array([[80.0, -80.0, -80.0]] * 2)
    temperatures = np.array([0.3, 0.0], np.float32)
    sampled = sample(logits, temperatures, np.array([1, 2], np.uint64), np.zeros(2, np.uint64))
    assert np.array(sampled.tokens_B).tolist() == [0, 0]
    assert np.array(sampled.logprobs_B).tolist() == [0.0, 0.0]
    assert sampled.tokens_B.dtype == mx.int32
    assert sampled.logprobs_B.dtype == mx.float32
