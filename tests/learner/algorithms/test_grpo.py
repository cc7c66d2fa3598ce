import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import math

import mlx.core as mx
import numpy as np
import pytest

from learner.algorithm import BatchRewards, StepTotals, TokenBatch
from learner.algorithms.grpo import grpo

TOTALS = StepTotals(num_tokens=3, num_sequences=2, max_completion_tokens=4)
REWARDS = BatchRewards(
    rewards_B=(1.0, 5.0, 0.0, None), groups_B=(0, 1, 0, 1), completion_tokens_B=(2, 1, 1, 1)
)


def tokens():
    """Ratios 2, 0.5 (A = +1) and 1, padding (A = -1)."""
    return TokenBatch(
        logprobs_BT=mx.array([[math.log(2.0), -math.log(2.0)], [-1.0, 1e4]]),
        behaviour_logprobs_BT=mx.array([[0.0, 0.0], [-1.0, -1e4]]),
        advantages=mx.array([1.0, -1.0]),
        mask_BT=mx.array([[True, True], [True, False]]),
    )


def test_advantages_are_those_of_each_group():
    # group 0: rewards 1, 0, mean 0.5, std 0.5 -> +-0.5 / 0.500001; group 1 has one valid sample
    advantages_B = grpo().advantages(REWARDS)
    np.testing.assert_allclose(advantages_B, [0.999998, 0.0, -0.999998, 0.0], rtol=1e-6)
    assert advantages_B.dtype == np.float32


def test_norm_by_std_can_be_left_out():
    assert grpo(norm_by_std=False).advantages(REWARDS).tolist() == [0.5, 0.0, -0.5, 0.0]


@pytest.mark.parametrize(
    ("knobs", "expected"),
    [
        # objectives min(2, 1.2) = 1.2, 0.5, -1: -(1.2 + 0.5 - 1) / 3 tokens
        ({}, -0.7 / 3),
        # min(2, 1.28) = 1.28: -(1.28 + 0.5 - 1) / 3
        ({"clip_high": 0.28}, -0.78 / 3),
        # means 1.7 / 2 and -1 / 1 over 2 completions: -(0.85 - 1) / 2
        ({"loss_aggregation": "seq_mean_token_mean"}, 0.075),
        # sums 1.7 and -1 over 2 completions and 4 tokens: -(1.7 - 1) / 8
        ({"loss_aggregation": "seq_mean_token_sum_norm"}, -0.7 / 8),
    ],
)
def test_the_loss_by_hand(knobs, expected):
    loss, metrics = grpo(**knobs).loss(tokens(), TOTALS)
    assert loss.item() == pytest.approx(expected)
    assert metrics["clip_fraction"].item() == 1.0


def test_clip_low_bounds_the_ratio_of_a_bad_completion():
    # A = -1, ratio 0.5: clip at 1 - 0.2 gives -0.8, at 1 - 0.6 it stays free at -0.5
    bad = TokenBatch(
        logprobs_BT=mx.array([[-math.log(2.0)]]),
        behaviour_logprobs_BT=mx.zeros((1, 1)),
        advantages=mx.array([-1.0]),
        mask_BT=mx.array([[True]]),
    )
    totals = StepTotals(num_tokens=1, num_sequences=1, max_completion_tokens=1)
    assert grpo().loss(bad, totals)[0].item() == pytest.approx(0.8)
    assert grpo(clip_low=0.6).loss(bad, totals)[0].item() == pytest.approx(0.5)


def test_a_few_steps_on_a_bandit_raise_the_probability_of_the_rewarded_arm():
    # 3 arms, reward 1 for arm 2: the whole algorithm in miniature, on-policy
    logits_V, parts = mx.zeros(3), grpo()
    arms_B = np.array([0, 1, 2, 2, 1, 0, 2, 1])
    rewards_B = tuple(float(arm == 2) for arm in arms_B)
    batch = BatchRewards(rewards_B=rewards_B, groups_B=(0,) * 8, completion_tokens_B=(1,) * 8)
    advantages_B = mx.array(parts.advantages(batch))
    totals = StepTotals(num_tokens=8, num_sequences=8, max_completion_tokens=1)

    def loss(logits_V, behaviour_BT):
        logprobs_BT = (logits_V - mx.logsumexp(logits_V))[mx.array(arms_B)][:, None]
        microbatch = TokenBatch(
            logprobs_BT=logprobs_BT,
            behaviour_logprobs_BT=logprobs_BT if behaviour_BT is None else behaviour_BT,
            advantages=advantages_B,
            mask_BT=mx.ones((8, 1), dtype=mx.bool_),
        )
        return parts.loss(microbatch, totals)[0]

    for _ in range(5):
        behaviour_BT = (logits_V - mx.logsumexp(logits_V))[mx.array(arms_B)][:, None]
        logits_V = logits_V - mx.grad(loss)(logits_V, behaviour_BT)
    assert float(mx.softmax(logits_V)[2]) > 0.7
