"""One completion of three tokens, whose gradient every algorithm's test works out by hand."""

import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import mlx.core as mx
import numpy as np
import pytest

from learner.algorithm import BatchRewards, StepTotals, TokenBatch

PROBABILITIES = (0.25, 0.5, 0.4)
BEHAVIOUR = (0.2, 0.2, 0.8)
"""Ratios 1.25, 2.5 and 0.5."""


@pytest.fixture
def three_tokens():
    """Advantage, and other fields -> a batch with the probabilities above and one padded token."""

    def make(advantage, **changed):
        behaviour_BT = mx.log(mx.array([[*BEHAVIOUR, 1.0]]))
        zeros_BT = mx.zeros((1, 4))
        fields = {
            "logprobs_BT": mx.log(mx.array([[*PROBABILITIES, 1.0]])),
            "behaviour_logprobs_BT": behaviour_BT,
            "proximal_logprobs_BT": behaviour_BT,
            "entropy_BT": zeros_BT,
            "staleness_BT": zeros_BT,
            "advantages": mx.array([advantage]),
            "mask_BT": mx.array([[True, True, True, False]]),
            "ref_logprobs_BT": behaviour_BT,
            "values_BT": zeros_BT,
            "old_values_BT": zeros_BT,
            "returns_BT": zeros_BT,
        }
        return TokenBatch(**{**fields, **changed})

    return make


@pytest.fixture
def gradient(three_tokens):
    """Algorithm, advantage, and other fields -> the gradient of its loss by each token's logprob,
    for a step of these 3 tokens where completions may have 4."""

    def make(algorithm, advantage, **changed):
        totals = StepTotals(num_tokens=3, num_sequences=1, max_completion_tokens=4)

        def loss(logprobs_BT):
            batch = three_tokens(advantage, **changed, logprobs_BT=logprobs_BT)
            return algorithm.loss(batch, totals)[0]

        return np.array(mx.grad(loss)(three_tokens(advantage).logprobs_BT))[0, :3]

    return make


@pytest.fixture
def rewards():
    """Group 0: rewards 1 and 0. Group 1: 5 and a masked sample. Group 2: both 1."""
    return BatchRewards(
        rewards_B=(1.0, 5.0, 0.0, None, 1.0, 1.0),
        groups_B=(0, 1, 0, 1, 2, 2),
        completion_tokens_B=(2, 1, 1, 1, 3, 4),
        max_completion_tokens=4,
        values_BT=np.zeros((6, 4), dtype=np.float32),
    )
