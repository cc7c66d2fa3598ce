import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import mlx.core as mx
import numpy as np
import pytest

from learner.losses.aggregation import token_weights


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [
        # 3 of the step's 10 tokens are here: 1 / 10 each
        ("token_mean", [[0.1, 0.1, 0.0], [0.1, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        # 4 completions in the step, of 2, 1 and 0 tokens here: 1 / (4 * 2), 1 / (4 * 1)
        ("seq_mean_token_mean", [[0.125, 0.125, 0.0], [0.25, 0.0, 0.0], [0.0, 0.0, 0.0]]),
        # 1 / (4 * 5) each
        ("seq_mean_token_sum_norm", [[0.05, 0.05, 0.0], [0.05, 0.0, 0.0], [0.0, 0.0, 0.0]]),
    ],
)
def test_token_weights_by_hand(aggregation, expected):
    mask_BT = mx.array([[True, True, False], [True, False, False], [False, False, False]])
    weights_BT = token_weights(
        mask_BT, aggregation, num_tokens=10, num_sequences=4, constant_length=5
    )
    np.testing.assert_allclose(np.array(weights_BT), expected, rtol=1e-6)
