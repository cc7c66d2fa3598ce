"""Last numbers, compared with what stands behind ####."""

from learner.evaluator import traits_of
from learner.evaluators.gsm8k import gsm8k


def test_a_full_reward_is_a_right_number(make_sample):
    samples = [make_sample(reward=value, group=prompt) for prompt, value in enumerate((1.0, 0.5))]
    found = gsm8k(samples)
    assert {key: found[key] for key in ("accuracy", "n")} == {"accuracy": 0.5, "n": 2}
    assert [reward.name for reward in traits_of("gsm8k").rewards] == ["numeric_match"]
