"""What every evaluator is given, what it may ask the policy, and what is kept of it."""

import numpy as np
import pytest

from learner.algorithm import make_algorithm
from learner.evaluation import Evaluation, Plan, evaluated_rows, is_finite, policy_view, shown
from learner.evaluator import Evaluate, PolicyView
from learner.exchange.evaluation_book import SuitePrompts
from learner.exchange.prompt_book import PromptEntry
from learner.step import Trainer
from learner.suites import Suite
from protocol.errors import RunStopped

ENTRIES = [PromptEntry(f"p:{i}", "", np.zeros(1, np.int32), "", "{}") for i in range(3)]
POLICY = PolicyView(lambda prompts, completions: [], None)  # pyright: ignore[reportArgumentType]


def count(found, **given):
    return {"number": float(len(found)), **{name: float(v is POLICY) for name, v in given.items()}}


def test_every_evaluator_is_given_what_is_its_own(make_sample):
    plans = [
        Plan(Evaluate("second", count), 1, ENTRIES),
        Plan(Evaluate("texts", count, wants_policy=True), None, ENTRIES),
        Plan(Evaluate("first", count), 0, ENTRIES),
    ]
    found = ((make_sample(),), (make_sample(), make_sample(sample=1), make_sample(group=1)))
    second, texts, first = Evaluation(plans).results(found, POLICY)
    assert (second.name, second.figures, second.num_prompts) == ("second", {"number": 3.0}, 2)
    assert (texts.figures, texts.num_prompts) == ({"number": 3.0, "policy": 1.0}, 3)
    assert (first.figures, len(first.samples)) == ({"number": 1.0}, 1)
    assert not texts.samples


def test_lost_prompts_are_counted_and_a_suite_without_any_ends_the_run(make_sample):
    suites = [SuitePrompts(Suite(("a",)), ENTRIES), SuitePrompts(Suite(("b",)), ENTRIES[:1])]
    evaluation = Evaluation((), suites)
    whole = (make_sample(), make_sample(sample=1), make_sample(group=1))
    assert evaluation.missing((whole, (make_sample(),)), "here") == 1
    with pytest.raises(RunStopped, match="here lost all 1 prompts"):
        evaluation.missing((whole, ()), "here")


def test_the_policy_tells_the_logprobs_of_any_text(make_config, make_bigram, make_sample, by_hand):
    config = make_config(generation={"temperature": 0.7})
    trainer = Trainer(make_bigram(), make_algorithm(config.algorithm), config)
    samples = [make_sample((1, 2), (3, 4, 5)), make_sample((4,), (1,))]
    view = policy_view(trainer)
    found = view.logprobs(
        [sample.prompt_ids for sample in samples], [s.rollout.token_ids for s in samples]
    )
    for logprobs, sample in zip(found, samples, strict=True):
        wanted, _ = by_hand(trainer.policy, sample, temperature=1.0)
        np.testing.assert_allclose(logprobs, wanted, atol=1e-2)  # the policy is rounded to bf16


def test_a_completion_is_kept_with_what_pairs_it(make_sample):
    [row] = evaluated_rows([make_sample(sample=2, rewards={"exact": 0.0}, reward=0.5)])
    assert row == {
        "prompt_id": "prompt-0",
        "sample": 2,
        "prompt": "0+1=",
        "completion": "completion 0/2",
        "completion_tokens": 2,
        "rewards": {"exact": 0.0},
        "reward": 0.5,
        "status": "ok",
        "finish_reason": "stop",
    }


def test_an_interval_stands_behind_its_figure():
    figures = {"accuracy": 0.5, "accuracy_low": 0.25, "accuracy_high": 0.75, "n": 4}
    assert shown(figures) == "accuracy 0.5 (0.25 to 0.75), n 4"
    assert is_finite(figures)
    assert not is_finite({"accuracy": float("nan")})
