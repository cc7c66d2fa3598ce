"""The value head of algorithms with a critic: one linear map on the policy's hidden states."""

import mlx.core as mx

from learner.forward.forward import Figures, scatter
from learner.masters import Arrays
from learner.optimizer import learning_rate_at, make_optimizer
from protocol.config_learner import LearnerSection


class Critic:
    """Estimates the reward that a completion will get, before each of its tokens.

        V_t = weight . hidden_t + bias

    `hidden_t` is what token t is sampled from. The critic is the learner's own: it is saved in
    checkpoints and not published.

    Args:
        size: of a hidden state.
        section: the config.
    """

    def __init__(self, size: int, section: LearnerSection) -> None:
        self.arrays: Arrays = {"weight": mx.zeros(size), "bias": mx.zeros(1)}
        """fp32, zero at first: the first advantages are those without a critic."""
        self._section = section.optimizer.model_copy(
            update={"learning_rate": section.critic_learning_rate}
        )
        self.optimizer = make_optimizer(self._section, self.arrays)

    def learning_rate(self, step: int, max_steps: int) -> float:
        """Learning rate of a training step; the policy's schedule with a peak of its own."""
        return learning_rate_at(step, self._section, max_steps)


def values(arrays: Arrays, figures: Figures) -> mx.array:
    """Estimates [B, T], in units of reward, 0 outside the mask; gradients flow to both inputs."""
    values_N = figures.hidden_ND @ arrays["weight"] + arrays["bias"]
    return scatter(values_N, figures.positions_N, figures.logprobs_BT.shape)
