import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import math
from functools import partial

import mlx.core as mx
import numpy as np
import pytest

from learner.algorithm import StepTotals, TokenBatch
from learner.losses.kl import KlPenalty
from learner.losses.off_policy import OffPolicy
from learner.losses.policy_loss import actor_critic_loss, policy_loss
from learner.losses.surrogates import clipped_surrogate

TOTALS = StepTotals(num_tokens=4, num_sequences=2, max_completion_tokens=8)
LOG2 = math.log(2.0)


def tokens(**changed):
    fields = {
        "logprobs_BT": mx.array([[-1.0, -1.0], [-1.0, 0.0]]),
        "behaviour_logprobs_BT": mx.array([[-1.0 - LOG2, -1.0], [-1.0, 0.0]]),
        "proximal_logprobs_BT": mx.array([[-1.0 + LOG2, -1.0], [-1.0, 0.0]]),
        "entropy_BT": mx.array([[1.0, 2.0], [3.0, 0.0]]),
        "staleness_BT": mx.array([[1, 0], [0, 0]]),
        "advantages": mx.array([1.0, -1.0]),
        "mask_BT": mx.array([[True, True], [True, False]]),
        "ref_logprobs_BT": mx.array([[-1.0, -2.0], [-1.0, 0.0]]),
        "values_BT": mx.array([[0.5, 0.5], [0.5, 0.0]]),
        "old_values_BT": mx.array([[0.5, 0.5], [0.5, 0.0]]),
        "returns_BT": mx.array([[1.0, 0.0], [0.5, 0.0]]),
    }
    return TokenBatch(**{**fields, **changed})


class Surrogate:
    """Costs 1 a token, and remembers what it was given."""

    def __call__(self, logprobs_BT, old_logprobs_BT, advantages_BT, mask_BT):
        self.old_logprobs = old_logprobs_BT.tolist()
        self.advantages_BT = advantages_BT
        return mask_BT.astype(mx.float32), {"clip_fraction": mx.array(2.0)}


def loss_of(batch, **knobs):
    surrogate = Surrogate()
    knobs = {"aggregation": "token_mean", **knobs}
    loss, metrics = policy_loss(batch, TOTALS, surrogate=surrogate, **knobs)
    return loss.item(), {name: value.item() for name, value in metrics.items()}, surrogate


def test_the_surrogate_alone():
    # 3 tokens of cost 1, of the step's 4
    loss, metrics, surrogate = loss_of(tokens())
    assert loss == pytest.approx(3 / 4)
    assert surrogate.old_logprobs == tokens().behaviour_logprobs_BT.tolist()
    assert surrogate.advantages_BT.shape == (2, 1)
    assert set(metrics) == {
        "clip_fraction",
        "importance_ratio",
        "importance_ratio_squared",
        "mismatch_kl",
    }


def test_every_aggregation_weighs_the_same_terms():
    # 1 / (2 * 2) twice and 1 / (2 * 1); 3 times 1 / (2 * 8)
    assert loss_of(tokens(), aggregation="seq_mean_token_mean")[0] == pytest.approx(1.0)
    assert loss_of(tokens(), aggregation="seq_mean_token_sum_norm")[0] == pytest.approx(3 / 16)


@pytest.mark.parametrize(
    ("off_policy", "first_old", "total"),
    [
        # proximal / behaviour = 4 for the first token, 1 for the others
        (OffPolicy(correction="tis"), -1.0 + LOG2, 2 + 1 + 1),
        (OffPolicy(correction="token_mask", token_mask_high=3.0), -1.0 + LOG2, 0 + 1 + 1),
        # geometric means sqrt(4 * 1) and 1
        (OffPolicy(correction="geo_mask"), -1.0 + LOG2, 0 + 0 + 1),
        (OffPolicy(correction="decoupled"), -1.0 + LOG2, 4 + 1 + 1),
        # half of the way from -1 - log 2 to -1: a ratio of sqrt 2
        (
            OffPolicy(correction="decoupled", proximal="interpolated"),
            -1.0 - LOG2 / 2,
            math.sqrt(2) + 1 + 1,
        ),
    ],
)
def test_a_correction_moves_the_ratio_and_weighs_the_surrogate(off_policy, first_old, total):
    loss, metrics, surrogate = loss_of(tokens(), off_policy=off_policy)
    assert loss == pytest.approx(total / 4, rel=1e-5)
    assert surrogate.old_logprobs[0][0] == pytest.approx(first_old)
    assert metrics["off_policy_weight"] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("correction", ["none", "tis", "token_mask", "geo_mask", "decoupled"])
def test_the_mismatch_is_that_of_learner_and_sampler_whatever_the_correction(correction):
    # the first token's ratio to the behaviour policy is 2: 2 - log 2 - 1, and 2 + 1 + 1
    _, metrics, _ = loss_of(tokens(), off_policy=OffPolicy(correction=correction))
    assert metrics["mismatch_kl"] == pytest.approx(1.0 - LOG2, rel=1e-5)
    assert metrics["importance_ratio"] == pytest.approx(4.0, rel=1e-5)
    assert metrics["importance_ratio_squared"] == pytest.approx(6.0, rel=1e-5)


def test_kl_and_entropy_are_added_beside_the_weighted_surrogate():
    # the second token alone is off the reference, d = 1: k2 = 0.5; entropies 1 + 2 + 3
    # weights 4, 1, 1: (6 + 0.2 * 0.5 - 0.1 * 6) / 4
    loss, metrics, _ = loss_of(
        tokens(),
        kl=KlPenalty(estimator="k2", coefficient=0.2),
        entropy_coefficient=0.1,
        off_policy=OffPolicy(correction="decoupled"),
    )
    assert loss == pytest.approx(5.5 / 4, rel=1e-5)
    assert metrics["kl_ref"] == pytest.approx(0.5)


def test_the_entropy_bonus_pushes_every_token_alike():
    def total(entropy_BT):
        return policy_loss(
            tokens(entropy_BT=entropy_BT),
            TOTALS,
            surrogate=Surrogate(),
            aggregation="token_mean",
            entropy_coefficient=0.1,
        )[0]

    gradient_BT = mx.grad(total)(mx.array([[1.0, 2.0], [3.0, math.nan]]))
    np.testing.assert_allclose(np.array(gradient_BT), [[-0.025, -0.025], [-0.025, 0.0]], rtol=1e-6)


@pytest.mark.parametrize("correction", ["tis", "token_mask", "geo_mask", "decoupled"])
def test_no_gradient_flows_through_the_proximal_policy(correction):
    def total(proximal_BT):
        return policy_loss(
            tokens(proximal_logprobs_BT=proximal_BT),
            TOTALS,
            surrogate=partial(clipped_surrogate, clip_low=0.2, clip_high=0.2),
            aggregation="token_mean",
            off_policy=OffPolicy(correction=correction),
        )[0]

    assert not np.array(mx.grad(total)(tokens().proximal_logprobs_BT)).any()


def test_without_a_reference_no_kl_is_asked_for():
    assert "kl_ref" not in loss_of(tokens(ref_logprobs_BT=None))[1]


def test_the_critics_loss_is_added_to_the_policys():
    # 0.5 * (0.25 + 0.25 + 0) = 0.25; (2 + 0.5 * 0.25 / 4)
    def policy(tokens, totals):
        return mx.array(2.0), {"clip_fraction": mx.array(1.0)}

    loss, metrics = actor_critic_loss(
        tokens(),
        TOTALS,
        policy=policy,
        aggregation="token_mean",
        value_coefficient=0.5,
        value_clip=0.2,
    )
    assert loss.item() == pytest.approx(2.03125)
    assert metrics["value_loss"].item() == pytest.approx(0.25)
    assert metrics["clip_fraction"].item() == 1.0
