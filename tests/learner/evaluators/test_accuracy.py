"""The share of right completions, by hand."""

import math

import pytest

from learner.evaluators.accuracy import accuracy


def test_the_first_reward_decides_at_full_reward(make_sample):
    samples = [
        make_sample(rewards={"exact": value, "format": 1.0}) for value in (1.0, 0.5, 1.0, 0.0)
    ]
    assert accuracy(samples) == {"accuracy": 0.5, "n": 4}


def test_the_weighted_sum_does_not_decide(make_sample):
    assert accuracy([make_sample(reward=3.0, rewards={"exact": 0.0})])["accuracy"] == 0.0


def test_another_reward_and_threshold_can_be_named(make_sample):
    samples = [make_sample(rewards={"exact": 0.0, "format": value}) for value in (0.4, 0.5)]
    assert accuracy(samples, reward="format", threshold=0.5) == {"accuracy": 0.5, "n": 2}


def test_completions_that_failed_or_lack_the_reward_are_not_counted(make_sample):
    samples = [
        make_sample(rewards={"exact": 1.0}),
        make_sample(reward=None, rewards={"exact": 0.0}),
        make_sample(rewards={"exact": None, "format": 1.0}),
        make_sample(rewards={"format": 0.0}),
    ]
    assert accuracy(samples, reward="exact") == {"accuracy": 1.0, "n": 1}


@pytest.mark.parametrize("reward", [None, "no such"])
def test_of_no_completions_it_is_nan(make_sample, reward):
    samples = [] if reward is None else [make_sample()]
    figures = accuracy(samples, reward=reward)
    assert math.isnan(figures["accuracy"])
    assert figures["n"] == 0
