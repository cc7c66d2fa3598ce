"""The task's own score, and how often it is full."""

from learner.evaluator import traits_of
from learner.evaluators.reasoning_gym import reasoning_gym


def test_half_an_answer_has_half_a_score(make_sample):
    samples = [make_sample(reward=value, group=prompt) for prompt, value in enumerate((1.0, 0.5))]
    found = reasoning_gym(samples)
    assert {key: found[key] for key in ("score", "solved", "n")} == {
        "score": 0.75,
        "solved": 0.5,
        "n": 2,
    }
    assert [reward.name for reward in traits_of("reasoning_gym").rewards] == ["reasoning_gym"]
