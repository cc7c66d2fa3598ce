import math
import types

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.sampler import completion_seed, draw, sample, splitmix64

LOGITS = np.random.default_rng(0).normal(0.0, 2.0, (6, 11)).astype(np.float32)
SEEDS = np.array([3, 3, 2**64 - 1, 7, 2**53, 0], np.uint64)
POSITIONS = np.array([0, 1, 2, 500_000, 4, 5], np.uint64)
TEMPERATURES = np.array([0.7, 1.0, 0.0, 1.3, 0.0, 0.7], np.float32)


def sampled_rows(rows, logits=LOGITS):
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
    tokens, logprobs = sampled_rows(rows)
    for row, token, logprob in zip(rows, tokens, logprobs, strict=True):
        [alone], [alone_logprob] = sampled_rows([row])
        assert token == alone
        assert logprob == pytest.approx(alone_logprob, abs=1e-6)


def test_a_neighbours_logits_change_nothing():
    other = LOGITS.copy()
    other[1:] = -other[1:]
    assert sampled_rows(range(6))[0][0] == sampled_rows(range(6), other)[0][0]


def test_each_rows_logprob_is_that_of_the_tempered_softmax():
    tokens, logprobs = sampled_rows(range(6))
    for row, (token, logprob) in enumerate(zip(tokens, logprobs, strict=True)):
        temperature = float(TEMPERATURES[row]) or 1.0  # greedy rows: at temperature 1
        wanted = math.log(softmax64(LOGITS[row], temperature)[token])
        assert logprob == pytest.approx(wanted, abs=2e-6)


def test_greedy_rows_take_the_likeliest_token_among_sampled_neighbours():
    tokens, _ = sampled_rows(range(6))
    assert [tokens[2], tokens[4]] == LOGITS[[2, 4]].argmax(axis=-1).tolist()
    assert sampled_rows([2, 4])[0] == LOGITS[[2, 4]].argmax(axis=-1).tolist()


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


def both(logits_BV, temperatures_B, uniforms_B2):
    """The same draw on NumPy and on MLX: (tokens, logprobs) of each."""
    arrays = [np.asarray(array, np.float32) for array in (logits_BV, temperatures_B, uniforms_B2)]
    ours = draw(np, *arrays)
    theirs = draw(mx, *map(mx.array, arrays))
    return ours, tuple(np.array(array) for array in theirs)


@pytest.mark.parametrize("vocabulary", [1, 2, 17, 64, 65, 513, 1021, 1024, 32_003, 49_152, 50_257])
def test_numpy_and_mlx_draw_the_same_tokens(vocabulary):
    chosen = np.random.default_rng(vocabulary)
    rows = 64 if vocabulary > 2000 else 512
    logits_BV = chosen.normal(0.0, 3.0, (rows, vocabulary))
    temperatures_B = chosen.choice([0.0, 0.3, 1.0, 2.0], rows)
    uniforms_B2 = chosen.integers(0, 2**24, (rows, 2)) * 2.0**-24
    (tokens, logprobs), (mlx_tokens, mlx_logprobs) = both(logits_BV, temperatures_B, uniforms_B2)
    assert tokens.tolist() == mlx_tokens.tolist()
    assert tokens.min() >= 0 and tokens.max() < vocabulary
    np.testing.assert_allclose(logprobs, mlx_logprobs, atol=2e-5, rtol=0)
    for row in range(0, rows, 16):
        weights = softmax64(logits_BV[row].astype(np.float32), temperatures_B[row] or 1.0)
        assert logprobs[row] == pytest.approx(math.log(weights[tokens[row]]), abs=2e-5)


EDGES = (0.0, 2.0**-24, 0.5, 1 - 2.0**-23, 1 - 2.0**-24)


@pytest.mark.parametrize("vocabulary", [17, 1021, 1024])
@pytest.mark.parametrize("forbidden", [-np.inf, -1e30, -200.0])
def test_a_token_of_probability_0_is_never_drawn(vocabulary, forbidden):
    chosen = np.random.default_rng(1)
    uniforms_B2 = np.array([(a, b) for a in EDGES for b in EDGES] * 20)
    logits_BV = chosen.normal(0.0, 1.0, (len(uniforms_B2), vocabulary))
    allowed_BV = chosen.random(logits_BV.shape) < 0.02
    allowed_BV[np.arange(len(logits_BV)), chosen.integers(0, vocabulary, len(logits_BV))] = True
    logits_BV[~allowed_BV] = forbidden
    for tokens, logprobs in both(logits_BV, np.ones(len(logits_BV)), uniforms_B2):
        assert allowed_BV[np.arange(len(tokens)), tokens].all()
        assert np.isfinite(logprobs).all()


@pytest.mark.parametrize("place", [0, 511, 512, 1020])
def test_the_only_possible_token_is_drawn_whatever_the_random_number(place):
    uniforms_B2 = np.array([(a, b) for a in EDGES for b in EDGES])
    logits_BV = np.full((len(uniforms_B2), 1021), -np.inf)
    logits_BV[:, place] = 1e30
    for temperature in (0.0, 0.7):
        for tokens, logprobs in both(
            logits_BV, np.full(len(uniforms_B2), temperature), uniforms_B2
        ):
            assert set(tokens.tolist()) == {place}
            assert set(logprobs.tolist()) == {0.0}


def test_a_cumsum_that_rounds_unevenly_leads_to_no_token_of_probability_0():
    # as on a GPU, which sums in parallel: here every other place is a little too low
    numpy = types.ModuleType("numpy with another cumsum")

    def uneven(weights, axis):
        return np.cumsum(weights, axis) - np.where(np.arange(weights.shape[axis]) % 2, 0.01, 0)

    vars(numpy).update(vars(np), cumsum=uneven)
    chosen = np.random.default_rng(2)
    logits_BV = np.where(np.arange(101) % 3 == 0, 0.0, -np.inf)[None].repeat(5000, 0)
    tokens, _ = draw(numpy, logits_BV, np.ones(5000), chosen.random((5000, 2)))
    assert set(tokens.tolist()) == set(range(0, 101, 3))


def test_huge_logits_stay_exact():
    # softmax of (1e4, 1e4 - 1): 1 / (1 + e^-1) = 0.7311
    logits_BV = np.array([[1e4, 1e4 - 1.0], [-1e4, -1e4 - 1.0]])
    for tokens, logprobs in both(logits_BV, [1.0, 1.0], [[0.0, 0.73], [0.0, 0.74]]):
        assert tokens.tolist() == [0, 1]
        assert logprobs.tolist() == pytest.approx([-0.31326, -1.31326], abs=1e-5)


def test_a_wide_vocabulary_is_drawn_in_proportion_over_all_its_blocks():
    # 1,021 is a prime: two blocks, the second one padded
    weights = np.linspace(1.0, 3.0, 1021)
    seeds = np.array([completion_seed(5, index) for index in range(20_000)], np.uint64)
    logits = np.log(weights).astype(np.float32)
    tokens = draw_many(logits, 1.0, seeds, np.zeros(len(seeds), np.uint64))
    tenths = np.arange(1021) * 10 // 1021
    expected = np.bincount(tenths, weights / weights.sum())
    # 9 degrees of freedom: 1 of 10,000 honest samplers is above 33.7
    assert chi_square(tenths[tokens], expected) < 33.7
