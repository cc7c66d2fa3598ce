"""The value head, on three hidden states of two numbers."""

import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import mlx.core as mx
import pytest

from learner.critic import Critic, values
from learner.forward.forward import Figures
from protocol.config_learner import LearnerSection

ARRAYS = {"weight": mx.array([2.0, -1.0]), "bias": mx.array([0.5])}


def figures(hidden_ND=((1.0, 0.0), (0.0, 1.0), (3.0, 4.0))):
    """Rows of two tokens and of one."""
    zeros_BT = mx.zeros((2, 2))
    return Figures(zeros_BT, zeros_BT, mx.array(hidden_ND), mx.array([0, 1, 2]))


def test_values_by_hand():
    # 2 x - y + 0.5: 2.5, -0.5, 6 - 4 + 0.5 = 2.5; 0 where there is no token
    assert values(ARRAYS, figures()).tolist() == [[2.5, -0.5], [2.5, 0.0]]


def test_gradients_flow_to_the_head_and_to_hidden_states():
    # of V[0, 0] + 10 V[1, 0] + 100 V[1, 1]; the last is padding
    weights_BT = mx.array([[1.0, 0.0], [10.0, 100.0]])

    def total(arrays, hidden_ND):
        return (weights_BT * values(arrays, figures(hidden_ND))).sum()

    by_arrays, by_hidden = mx.grad(total, argnums=[0, 1])(ARRAYS, figures().hidden_ND)
    assert by_arrays["weight"].tolist() == [1.0 + 30.0, 40.0]
    assert by_arrays["bias"].tolist() == [11.0]
    assert by_hidden.tolist() == [[2.0, -1.0], [0.0, 0.0], [20.0, -10.0]]


def test_at_first_it_expects_nothing():
    critic = Critic(2, LearnerSection())
    assert values(critic.arrays, figures()).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    assert {array.dtype for array in critic.arrays.values()} == {mx.float32}


@pytest.mark.parametrize(("step", "rate"), [(0, 0.1), (1, 0.2), (6, 0.1)])
def test_its_learning_rate_has_a_peak_of_its_own_in_the_policys_schedule(step, rate):
    # warm-up of 1: half of 0.2; then linear over the other 10 of 11: half at step 6
    section = {"warmup_steps": 1, "schedule": "linear", "learning_rate": 7.0}
    learner_section = LearnerSection.model_validate(
        {"critic_learning_rate": 0.2, "optimizer": section}
    )
    assert Critic(2, learner_section).learning_rate(step, 11) == pytest.approx(rate)
