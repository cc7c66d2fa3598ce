"""Answers, compared as mathematics."""

from learner.evaluator import traits_of
from learner.evaluators.math import math


def test_a_full_reward_is_a_right_answer(make_sample):
    samples = [make_sample(reward=value, group=prompt) for prompt, value in enumerate((1.0, 0.5))]
    found = math(samples)
    assert {key: found[key] for key in ("accuracy", "n")} == {"accuracy": 0.5, "n": 2}
    assert [reward.name for reward in traits_of("math").rewards] == ["math_verify"]
