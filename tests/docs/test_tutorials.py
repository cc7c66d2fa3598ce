"""What the tutorials' functions say, by hand; tests/e2e/test_tutorials.py runs their commands."""

import math
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from learner.algorithm import BatchRewards, StepTotals, TokenBatch, make_algorithm
from learner.evaluator import evaluator
from protocol.config_learner import AlgorithmSection
from reward_workers.registry import reward

TUTORIALS = Path(__file__).resolve().parents[2] / "docs" / "tutorials"


def test_the_reward_falls_with_the_distance():
    close_enough = reward.get(f"{TUTORIALS}/your_own_reward.py:close_enough")
    completions, answers = ["50", " 53\n", "60", "about 50", ""], ["50"] * 5
    # distances 0, 3 and 10 of a tolerance of 10; two are no numbers
    said = close_enough(completions=completions, answer=answers, tolerance=10.0, other=answers)
    assert said == pytest.approx([1.0, 0.7, 0.0, 0.0, 0.0])


@pytest.fixture
def best_of_group():
    name = f"{TUTORIALS}/your_own_algorithm.py:best_of_group"
    return make_algorithm(AlgorithmSection.model_validate({"name": name, "temperature": 0.5}))


def test_the_algorithm_weighs_by_softmax_and_leaves_masked_and_equal_groups_out(best_of_group):
    batch = BatchRewards(
        rewards_B=(1.0, 0.0, None, 1.0, 1.0),
        groups_B=(0, 0, 0, 1, 1),
        completion_tokens_B=(2,) * 5,
        max_completion_tokens=2,
    )
    # exp(1 / 0.5) = e^2: shares e^2 / (e^2 + 1) and 1 / (e^2 + 1), times the two valid samples
    share = math.exp(2) / (math.exp(2) + 1)
    wanted = [2 * share, 2 * (1 - share), 0.0, 0.0, 0.0]
    assert best_of_group.advantages(batch) == pytest.approx(wanted)


def test_the_algorithms_loss_by_hand_with_hostile_padding(best_of_group):
    columns = mx.array([[-1.0, -2.0], [-3.0, -math.inf]])
    mask = mx.array([[True, True], [True, False]])
    batch = TokenBatch(
        logprobs_BT=columns,
        behaviour_logprobs_BT=columns,
        proximal_logprobs_BT=columns,
        entropy_BT=columns,
        staleness_BT=columns,
        advantages=mx.array([[0.5, 0.5], [2.0, 1e4]]),
        mask_BT=mask,
    )
    totals = StepTotals(num_tokens=4, num_sequences=2, max_completion_tokens=2)
    loss, metrics = best_of_group.loss(batch, totals)
    # -(0.5 * -1 + 0.5 * -2 + 2 * -3) / 4 = 7.5 / 4
    assert loss.item() == pytest.approx(1.875)
    assert metrics["imitated_weight"].item() == pytest.approx(3.0)


def test_the_evaluator_takes_the_majority(make_sample):
    majority = evaluator.get(f"{TUTORIALS}/your_own_evaluator.py:majority")
    said = [("a", "7", 0.0), ("a", "8", 1.0), ("a", "8 ", 1.0), ("b", "1", 0.0), ("b", "2", None)]
    samples = []
    for prompt_id, completion, value in said:
        made = make_sample(reward=value)
        rollout = made.rollout.model_copy(update={"completion": completion})
        samples.append(replace(made, prompt_id=prompt_id, rollout=rollout))
    # of a, two of three say 8, which is right; of b one valid sample says 1, which is wrong
    figures = majority(samples)
    assert figures == {"majority": 0.5, "agreement": pytest.approx((2 / 3 + 1) / 2), "n": 2}
    assert np.isnan(majority([])["majority"])
