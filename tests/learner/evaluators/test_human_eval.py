"""Programs that pass all of their problem's tests."""

from learner.evaluator import traits_of
from learner.evaluators.human_eval import human_eval


def test_a_program_passes_with_all_tests(make_sample):
    samples = [make_sample(reward=value, group=prompt) for prompt, value in enumerate((1.0, 0.5))]
    found = human_eval(samples)
    assert {key: found[key] for key in ("pass_at_1", "n")} == {"pass_at_1": 0.5, "n": 2}
    assert [reward.name for reward in traits_of("human_eval").rewards] == ["code_execution"]
