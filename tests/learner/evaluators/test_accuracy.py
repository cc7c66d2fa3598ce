"""The share of right completions, by hand."""

import math

import pytest

from learner.confidence import wilson_interval
from learner.evaluators.accuracy import accuracy


def figures(samples, **parameters):
    found = accuracy(samples, **parameters)
    assert set(found) == {"accuracy", "accuracy_low", "accuracy_high", "n"}
    return found["accuracy"], found["n"]


def test_the_first_reward_decides_at_full_reward(make_sample):
    samples = [
        make_sample(rewards={"exact": value, "format": 1.0}, group=prompt)
        for prompt, value in enumerate((1.0, 0.5, 1.0, 0.0))
    ]
    assert figures(samples) == (0.5, 4)
    found = accuracy(samples)
    assert (found["accuracy_low"], found["accuracy_high"]) == wilson_interval(2, 4)


def test_the_mean_is_over_a_prompts_samples_and_then_over_prompts(make_sample):
    # prompt 0: 1 of 4, prompt 1: 1 of 1 (its other sample is masked)  ->  (0.25 + 1) / 2
    samples = [make_sample(reward=float(i == 0), group=0, sample=i) for i in range(4)]
    samples += [make_sample(group=1), make_sample(reward=None, group=1, sample=1)]
    assert figures(samples) == (0.625, 2)
    found = accuracy(samples)
    assert (found["accuracy_low"], found["accuracy_high"]) == (0.25, 1.0)  # of two prompts


def test_the_weighted_sum_does_not_decide(make_sample):
    assert figures([make_sample(reward=3.0, rewards={"exact": 0.0})]) == (0.0, 1)


def test_another_reward_and_threshold_can_be_named(make_sample):
    samples = [
        make_sample(rewards={"exact": 0.0, "format": value}, group=prompt)
        for prompt, value in enumerate((0.4, 0.5))
    ]
    assert figures(samples, reward="format", threshold=0.5) == (0.5, 2)


def test_completions_that_failed_or_lack_the_reward_are_not_counted(make_sample):
    samples = [
        make_sample(rewards={"exact": 1.0}, group=0),
        make_sample(reward=None, rewards={"exact": 0.0}, group=1),
        make_sample(rewards={"exact": None, "format": 1.0}, group=2),
        make_sample(rewards={"format": 0.0}, group=3),
    ]
    assert figures(samples, reward="exact") == (1.0, 1)


@pytest.mark.parametrize("reward", [None, "no such"])
def test_of_no_completions_it_is_nan(make_sample, reward):
    samples = [] if reward is None else [make_sample()]
    share, n = figures(samples, reward=reward)
    assert math.isnan(share)
    assert n == 0
