"""What computes a step, made as the config of the step's run epoch asks for.

A resume may change the config between two steps: learning rate, rewards, algorithm, max_steps.
"""

from types import TracebackType

from learner.algorithm import make_algorithm
from learner.replay.rescorer import Rescorer
from learner.step import Trainer
from protocol.config import RunConfig
from protocol.policy import Policy, load_policy
from protocol.tokenizer import with_think_tags

_OF_TRAINERS = ("run", "model", "policy", "generation", "algorithm", "learner")
"""Sections that a trainer reads."""


class Configured:
    """A trainer, and a rescorer where rewards are compared; ends with its `with`.

    Args:
        config: to begin with.
        policy: the model, as it was before the first step.
        rewards: whether there is a rescorer.
    """

    def __init__(self, config: RunConfig, policy: Policy, *, rewards: bool) -> None:
        self.config = config
        told = with_think_tags(config, policy.tokenizer)
        self.rescorer = Rescorer(told) if rewards else None
        try:
            self.trainer = Trainer(policy, make_algorithm(config.algorithm), config)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Configured":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def trainer_for(self, config: RunConfig) -> Trainer:
        """A trainer of a config: the present one where it is no other to it."""
        if all(getattr(config, name) == getattr(self.config, name) for name in _OF_TRAINERS):
            return self.trainer
        return Trainer(self._policy_for(config), make_algorithm(config.algorithm), config)

    def follow(self, config: RunConfig) -> None:
        """Go on under a config, with the parameters and optimizer as they are.

        Raises:
            CheckpointError: they do not fit it, since only one of the two has a critic; nothing
                has changed.
        """
        trainer = self.trainer_for(config)
        if trainer is not self.trainer:
            trainer.parameters.restore(self.trainer.parameters.state())
        self.use(trainer, config)

    def use(self, trainer: Trainer, config: RunConfig) -> None:
        """Go on with a trainer that `trainer_for` gave for a config."""
        if self.rescorer is not None and config != self.config:
            self.rescorer.close()
            self.rescorer = Rescorer(with_think_tags(config, trainer.policy.tokenizer))
        self.trainer, self.config = trainer, config

    def close(self) -> None:
        """End the rescorer."""
        if self.rescorer is not None:
            self.rescorer.close()

    def _policy_for(self, config: RunConfig) -> Policy:
        """The same one, unless the model itself is set up in another way: its trainer did that."""
        now = self.config
        is_alike = config.policy == now.policy
        is_alike &= config.learner.grad_checkpoint == now.learner.grad_checkpoint
        return self.trainer.policy if is_alike else load_policy(config)
