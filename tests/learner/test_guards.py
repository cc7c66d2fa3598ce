"""What ends a run, and what only warns."""

import logging

import numpy as np
import pytest

from learner.guards import PARITY_BATCHES, Guards
from learner.step import NO_ADVANTAGE, StepResult
from protocol.errors import RunStopped


class Learner:
    """Logprobs that are off by so much; counts how often it was asked."""

    def __init__(self, error=0.0):
        self.error = error
        self.asked = 0

    def logprobs(self, samples, temperature):
        self.asked += 1
        return [sample.rollout.behaviour_logprobs + self.error for sample in samples]


@pytest.fixture
def make_guards(make_config):
    def make(own=None, **sections):
        return Guards(make_config(**sections), (own or Learner()).logprobs)

    return make


def skipped(reason):
    return StepResult({"loss": float("nan")}, np.zeros(1, np.float32), (None,), reason)


def trained():
    return StepResult({"loss": 0.5}, np.zeros(1, np.float32), (None,))


def test_parity_is_checked_until_enough_tokens_agree(make_guards, make_sample):
    learner = Learner()
    guards = make_guards(learner)
    few, many = [make_sample((1,), (2,) * 10)], [make_sample((1,), (2,) * 300)]
    guards.check_parity(few, 0)
    guards.check_parity(many, 0)
    guards.check_parity(many, 0)
    assert learner.asked == 2


def test_parity_is_not_checked_for_ever(make_guards, make_sample):
    learner = Learner()
    guards = make_guards(learner)
    for _ in range(PARITY_BATCHES + 2):
        guards.check_parity([make_sample((1,), (2,))], 0)
    assert learner.asked == PARITY_BATCHES


def test_a_batch_of_older_versions_says_nothing_about_parity(make_guards, make_sample):
    learner = Learner(error=-1.0)
    make_guards(learner).check_parity([make_sample((1,), (2,) * 300)], 7)
    assert learner.asked == 0


def test_a_learner_that_disagrees_with_its_actors_stops_the_run(make_guards, make_sample):
    # rho = exp(-1): 0.368 + 1 - 1 = 0.368 nats a token, above 0.015
    guards = make_guards(Learner(error=-1.0))
    with pytest.raises(RunStopped, match=r"disagree on 300 tokens .* mismatch KL 0\.368"):
        guards.check_parity([make_sample((1,), (2,) * 300)], 0)


def test_skipped_steps_in_a_row_stop_the_run_and_one_that_trains_begins_the_count_anew(
    make_guards, make_sample
):
    guards, samples = make_guards(learner={"max_skipped_in_row": 2}), [make_sample()]
    guards.stop_if_hopeless(samples, skipped("non_finite"), 1, 3)
    guards.stop_if_hopeless(samples, trained(), 2, 4)
    guards.stop_if_hopeless(samples, skipped("non_finite"), 3, 4)
    with pytest.raises(RunStopped, match=r"2 steps in a row .* lower .*learning_rate"):
        guards.stop_if_hopeless(samples, skipped("non_finite"), 4, 4)


def test_equal_rewards_stop_nothing_and_are_told_if_nothing_was_ever_trained(
    make_guards, make_sample
):
    guards, samples = make_guards(learner={"max_skipped_in_row": 1}), [make_sample()]
    for step in range(1, 6):
        guards.stop_if_hopeless(samples, skipped(NO_ADVANTAGE), step, 0)
    assert "rewards in every group are equal" in guards.why_nothing
    guards.stop_if_hopeless(samples, trained(), 6, 1)
    guards.stop_if_hopeless(samples, skipped(NO_ADVANTAGE), 7, 1)
    assert guards.why_nothing == ""


def test_a_symptom_of_the_metrics_becomes_a_warning(make_guards, caplog):
    guards = make_guards()
    with caplog.at_level(logging.WARNING):
        for step in range(1, 5):
            guards.warn({"step": step, "completion/truncated_fraction": 1.0, "reward/mean": 0.0})
    [record] = caplog.records
    assert "step 3" in record.message
    assert "max_completion_tokens" in record.message
