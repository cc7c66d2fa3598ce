import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import mlx.core as mx
import numpy as np
import pytest

from learner.algorithm import BatchRewards, StepTotals, TokenBatch, make_algorithm
from learner.algorithms.grpo import grpo
from learner.losses.kl import KlPenalty
from protocol.config_learner import AlgorithmSection
from protocol.errors import ConfigError


def test_advantages_are_those_of_each_group(rewards):
    # group 0: mean 0.5, std 0.5 -> +-0.5 / 0.500001; group 1 has one valid sample
    advantages_B = grpo().advantages(rewards)
    np.testing.assert_allclose(advantages_B, [0.999998, 0, -0.999998, 0, 0, 0], rtol=1e-6)
    assert advantages_B.dtype == np.float32


def test_norm_by_std_can_be_left_out(rewards):
    advantages_B = grpo(norm_by_std=False).advantages(rewards)
    assert advantages_B.tolist() == [0.5, 0.0, -0.5, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("knobs", "advantage", "expected"),
    [
        # ratios 1.25 and 2.5 are above 1.2; -0.5 / 3 tokens
        ({}, 1.0, [0, 0, -0.5 / 3]),
        # 0.5 is below 0.8
        ({}, -1.0, [1.25 / 3, 2.5 / 3, 0]),
        ({"clip_high": 0.3}, 1.0, [-1.25 / 3, 0, -0.5 / 3]),
        ({"clip_low": 0.6}, -1.0, [1.25 / 3, 2.5 / 3, 0.5 / 3]),
        ({"dual_clip": 2.0}, -1.0, [1.25 / 3, 0, 0]),
        # one completion of 3 tokens; 4 at most
        ({"loss_aggregation": "seq_mean_token_mean"}, 1.0, [0, 0, -0.5 / 3]),
        ({"loss_aggregation": "seq_mean_token_sum_norm"}, 1.0, [0, 0, -0.5 / 4]),
    ],
)
def test_the_gradient_by_hand(gradient, knobs, advantage, expected):
    np.testing.assert_allclose(gradient(grpo(**knobs), advantage), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("knobs", "needs_reference", "entropy_teaches", "zero_advantages_teach"),
    [
        ({}, False, False, False),
        ({"kl": KlPenalty(coefficient=0.1)}, True, False, True),
        ({"entropy_coefficient": 0.01}, False, True, True),
    ],
)
def test_what_is_without_advantage_teaches_only_beside_a_penalty_or_a_bonus(
    knobs, needs_reference, entropy_teaches, zero_advantages_teach
):
    made = grpo(**knobs)
    assert made.needs_reference == needs_reference
    assert made.entropy_teaches == entropy_teaches
    assert made.zero_advantages_teach == zero_advantages_teach


def test_nested_parts_are_read_from_a_config(gradient):
    parameters = {
        "kl": {"estimator": "k2", "coefficient": 0.1},
        "off_policy": {"correction": "tis", "tis_clip": 1.5},
    }
    made = make_algorithm(AlgorithmSection.model_validate({"name": "grpo", **parameters}))
    assert made.needs_reference
    # proximal 0.4, 0.5, 0.4: weights min(2, 1.5), min(2.5, 1.5), 0.5; ratios 0.625, 1, 1
    # k2 to the reference, here the behaviour policy: 0.1 * log 1.25, log 2.5, log 0.5
    proximal_BT = mx.log(mx.array([[0.4, 0.5, 0.4, 1.0]]))
    surrogate = -np.array([1.5 * 0.625, 1.5, 0.5])
    expected = (surrogate + 0.1 * np.log([1.25, 2.5, 0.5])) / 3
    got = gradient(made, 1.0, proximal_logprobs_BT=proximal_BT)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kl": {"coefficient": -1.0}}, r"kl\.coefficient = -1\.0"),
        ({"kl": {"beta": 1.0}}, r"kl\.beta = 1\.0: there is no such key"),
        ({"off_policy": {"correction": "vtrace"}}, r"off_policy\.correction = 'vtrace'"),
        (
            {"off_policy": {"correction": "token_mask", "token_mask_low": 9.0}},
            "token_mask_low 9.0 is above token_mask_high",
        ),
        ({"dual_clip": 1.0}, "dual_clip = 1.0"),
        ({"clip_high": float("inf")}, "clip_high = inf"),
    ],
)
def test_a_bad_value_in_a_nested_part_is_refused_by_its_place(parameters, message):
    section = AlgorithmSection.model_validate({"name": "grpo", **parameters})
    with pytest.raises(ConfigError, match=message):
        make_algorithm(section)


def test_a_few_steps_on_a_bandit_raise_the_probability_of_the_rewarded_arm():
    # 3 arms, reward 1 for arm 2: the whole algorithm in miniature, on-policy
    logits_V, parts = mx.zeros(3), grpo()
    arms_B = np.array([0, 1, 2, 2, 1, 0, 2, 1])
    batch = BatchRewards(
        rewards_B=tuple(float(arm == 2) for arm in arms_B),
        groups_B=(0,) * 8,
        completion_tokens_B=(1,) * 8,
        max_completion_tokens=1,
    )
    advantages_B = mx.array(parts.advantages(batch))
    totals = StepTotals(num_tokens=8, num_sequences=8, max_completion_tokens=1)

    def logprobs(logits_V):
        return (logits_V - mx.logsumexp(logits_V))[mx.array(arms_B)][:, None]

    def loss(logits_V, behaviour_BT):
        tokens = TokenBatch(
            logprobs_BT=logprobs(logits_V),
            behaviour_logprobs_BT=behaviour_BT,
            proximal_logprobs_BT=behaviour_BT,
            entropy_BT=mx.zeros((8, 1)),
            staleness_BT=mx.zeros((8, 1)),
            advantages=advantages_B,
            mask_BT=mx.ones((8, 1), dtype=mx.bool_),
        )
        return parts.loss(tokens, totals)[0]

    for _ in range(5):
        logits_V = logits_V - mx.grad(loss)(logits_V, logprobs(logits_V))
    assert float(mx.softmax(logits_V)[2]) > 0.7
