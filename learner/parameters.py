"""Everything that training changes: masters, critic, and their optimizers."""

from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map

from learner.critic import Critic
from learner.gradients import Trained
from learner.masters import Arrays, Masters
from learner.optimizer import (
    apply_gradients,
    learning_rate_at,
    make_optimizer,
    optimizer_state,
    restore_optimizer,
)
from protocol.config import RunConfig
from protocol.errors import CheckpointError
from protocol.policy import Policy


@dataclass(frozen=True)
class UndoPoint:
    """What optimizer steps replace. Arrays never change, so it holds references and no copies."""

    masters: Arrays
    optimizer: Any
    critic: Arrays
    critic_optimizer: Any


class Parameters:
    """Masters and optimizer of a policy, and of a critic where there is one.

    Args:
        policy: what is trained; its parameters are replaced after each step.
        critic: None for algorithms without one.
        config: the run.
    """

    def __init__(self, policy: Policy, critic: Critic | None, config: RunConfig) -> None:
        self.masters = Masters(policy)
        self.optimizer = make_optimizer(config.learner.optimizer, self.masters.arrays)
        self.critic = critic
        self._policy = policy
        self._section = config.learner.optimizer
        self._max_steps = config.run.max_steps

    def trained(self) -> Trained:
        """What a gradient is taken of: the rounded masters as the model has them, the critic."""
        trained: Trained = {"policy": self._policy.trained()}
        if self.critic is not None:
            trained["critic"] = self.critic.arrays
        return trained

    def apply(self, gradients: Trained, step: int) -> dict[str, float]:
        """Take one optimizer step.

        Args:
            gradients: of what `trained` returned.
            step: from 0; the schedule's position.

        Returns:
            `grad_norm`, and `critic_grad_norm` where there is a critic: before clipping. If one is
            not finite, some parameters may have been replaced: go back.
        """
        parameters, norm = apply_gradients(
            self.optimizer,
            self.masters.arrays,
            gradients["policy"],
            learning_rate=self.learning_rate(step),
            max_grad_norm=self._section.max_grad_norm,
        )
        self.masters.replace(parameters)
        if self.critic is None:
            return {"grad_norm": norm}
        self.critic.arrays, critic_norm = apply_gradients(
            self.critic.optimizer,
            self.critic.arrays,
            gradients["critic"],
            learning_rate=self.critic.learning_rate(step, self._max_steps),
            max_grad_norm=self._section.max_grad_norm,
        )
        return {"grad_norm": norm, "critic_grad_norm": critic_norm}

    def learning_rate(self, step: int) -> float:
        """Of the policy at a training step."""
        return learning_rate_at(step, self._section, self._max_steps)

    def are_finite(self) -> bool:
        """Whether no parameter is infinite or NaN, once rounded: a step can overflow by itself."""
        arrays = [array.astype(mx.float32) for array in self._policy.trained().values()]
        if self.critic is not None:
            arrays += self.critic.arrays.values()
        return bool(mx.isfinite(mx.stack([array.sum() for array in arrays])).all())

    def undo_point(self) -> UndoPoint:
        """Where `go_back` leads to."""
        critic = self.critic
        return UndoPoint(
            dict(self.masters.arrays),
            _copied(self.optimizer.state),
            {} if critic is None else critic.arrays,
            None if critic is None else _copied(critic.optimizer.state),
        )

    def go_back(self, point: UndoPoint) -> None:
        """Put everything back as it was."""
        self.masters.replace(point.masters)
        self.optimizer.state = point.optimizer
        if self.critic is not None:
            self.critic.arrays = point.critic
            self.critic.optimizer.state = point.critic_optimizer

    def state(self) -> Arrays:
        """Everything that a resumed run needs, by name."""
        state = _named("masters", self.masters.arrays)
        state |= _named("optimizer", optimizer_state(self.optimizer))
        if self.critic is not None:
            state |= _named("critic", self.critic.arrays)
            state |= _named("critic_optimizer", optimizer_state(self.critic.optimizer))
        return state

    def restore(self, state: Arrays) -> None:
        """Put back what `state` returned; further steps are then the same bits.

        Raises:
            CheckpointError: the state is of another model, tuning or kind of algorithm.
        """
        critic = _under("critic", state)
        if bool(critic) != (self.critic is not None):
            raise CheckpointError(
                f"the checkpoint {'has a critic' if critic else 'has no critic'}, the algorithm "
                f"{'has none' if critic else 'has one'}: use the config it was made with"
            )
        self.masters.replace(_under("masters", state))
        restore_optimizer(self.optimizer, _under("optimizer", state))
        if self.critic is not None:
            restore_optimizer(self.critic.optimizer, _under("critic_optimizer", state))
            self.critic.arrays = critic


def _copied(tree: Any) -> Any:  # noqa: ANN401
    return tree_map(lambda array: array, tree)


def _named(prefix: str, arrays: Arrays) -> Arrays:
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def _under(prefix: str, arrays: Arrays) -> Arrays:
    start = f"{prefix}/"
    return {
        name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)
    }
