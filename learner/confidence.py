"""How sure a figure is, and whether two differ: intervals of 95 % and paired tests, all seeded."""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Values: TypeAlias = Sequence[float] | NDArray[np.float64]
"""One a prompt."""
Z = 1.959963984540054
"""The normal distribution's 97.5 % quantile."""
DRAWS = 2000
"""Of a bootstrap over prompts."""
FLIPS = 20_000
"""Of a sign-flip test that cannot try all."""
MAX_EXACT_PROMPTS = 14
"""Differences whose signs are all tried: 2**14 ways."""
_PART = 200


class Interval(NamedTuple):
    """A figure of 95 of 100 samples of prompts lies in it."""

    low: float
    high: float


def mean_interval(values: Values) -> Interval:
    """Interval of the mean over prompts: Wilson's where all values are 0 or 1, else a bootstrap.

    Args:
        values: one a prompt.
    """
    if all(value in (0.0, 1.0) for value in values):
        return wilson_interval(round(sum(values)), len(values))
    return bootstrap_interval(values)


def wilson_interval(successes: int, number: int) -> Interval:
    """Wilson's interval of a share.

        (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)

    Source:
        Wilson 1927, Journal of the American Statistical Association 22.
    """
    if not number:
        return Interval(math.nan, math.nan)
    share, square = successes / number, Z * Z / number
    middle = share + square / 2
    half = Z * math.sqrt(share * (1 - share) / number + square / (4 * number))
    low, high = (middle - half) / (1 + square), (middle + half) / (1 + square)
    return Interval(0.0 if successes == 0 else low, 1.0 if successes == number else high)


def bootstrap_interval(values: Values, weights: Values | None = None, seed: int = 0) -> Interval:
    """Percentiles of the figure over prompts that are drawn again with replacement.

    Args:
        values: one a prompt; the figure is their sum divided by that of the weights.
        weights: one a prompt; None: 1 each, which makes the figure the mean.
        seed: of the draws: the same values give the same interval.
    """
    if not len(values):
        return Interval(math.nan, math.nan)
    values_P = np.asarray(values, np.float64)
    weights_P = np.ones_like(values_P) if weights is None else np.asarray(weights, np.float64)
    rng, found = np.random.default_rng(seed), list[NDArray[np.float64]]()
    for _ in range(0, DRAWS, _PART):
        drawn = rng.integers(len(values_P), size=(_PART, len(values_P)))
        found.append(values_P[drawn].sum(axis=1) / weights_P[drawn].sum(axis=1))
    low, high = np.percentile(np.concatenate(found), [2.5, 97.5])
    return Interval(float(low), float(high))


def paired_p_value(first: Values, second: Values, *, seed: int = 0) -> float:
    """Probability of a difference at least as large, were the two alike; two-sided.

    McNemar's exact test where all values are 0 or 1, else a sign-flip test of the mean difference:
    exact for few prompts that differ, with seeded flips for more.

    Args:
        first: one value a prompt.
        second: of the same prompts, in the same order.
        seed: of the flips.

    Raises:
        ValueError: the two are not of the same number of prompts.
    """
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} prompts, wanted the same ones in both")
    both = np.asarray([first, second], np.float64).reshape(2, -1)
    differences = both[0] - both[1]
    differences = differences[differences != 0]
    if not len(differences):
        return 1.0
    if np.isin(both, (0.0, 1.0)).all():
        return _mcnemar(int((differences > 0).sum()), int((differences < 0).sum()))
    return _sign_flip(differences, seed)


def _mcnemar(first_only: int, second_only: int) -> float:
    """2 P(X <= the smaller), X binomial of all prompts on which one alone is right."""
    number, few = first_only + second_only, min(first_only, second_only)
    return min(1.0, 2 * sum(math.comb(number, k) for k in range(few + 1)) / 2**number)


def _sign_flip(differences: NDArray[np.float64], seed: int) -> float:
    number, observed = len(differences), abs(differences.sum())
    slack = 1e-9 * float(np.abs(differences).sum())  # sums in another order are the same sum
    if number <= MAX_EXACT_PROMPTS:
        bits = (np.arange(2**number)[:, None] >> np.arange(number)) & 1
        sums = np.abs((1 - 2 * bits) @ differences)
        return float((sums >= observed - slack).mean())
    rng, reached = np.random.default_rng(seed), 0
    for _ in range(0, FLIPS, _PART):
        signs = 1 - 2 * rng.integers(2, size=(_PART, number))
        reached += int((np.abs(signs @ differences) >= observed - slack).sum())
    return (reached + 1) / (FLIPS + 1)  # the observed signs are one of the ways
