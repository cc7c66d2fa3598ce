"""fp32 masters of what is trained, and their rounding to what both sides compute with."""

from collections.abc import Mapping

import mlx.core as mx

from protocol.errors import CheckpointError
from protocol.policy import Policy

Arrays = dict[str, mx.array]


class Masters:
    """The trained parameters in fp32, by name.

    The policy computes with the masters rounded to `weight_dtype`, which is also what actors get;
    its gradients go straight through the rounding to the masters (arXiv 1308.3432). In bfloat16
    itself, steps of reinforcement learning's size would round to nothing.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.arrays: Arrays = {
            name: array.astype(mx.float32) for name, array in policy.trained().items()
        }
        mx.eval(self.arrays)
        self.apply()

    def rounded(self) -> Arrays:
        """The masters in `weight_dtype`, sorted by name: a policy version. They are evaluated."""
        return dict(self._rounded)

    def replace(self, arrays: Mapping[str, mx.array]) -> None:
        """Take new masters and let the policy compute with them, rounded.

        Raises:
            CheckpointError: other names or shapes than this policy's.
        """
        wanted = {name: array.shape for name, array in self.arrays.items()}
        found = {name: array.shape for name, array in arrays.items()}
        if wanted != found:
            odd = sorted(set(wanted.items()) ^ set(found.items()))[0]
            raise CheckpointError(f"masters do not fit this model: {odd[0]} with shape {odd[1]}")
        # in the order that is there: sums over all arrays depend on it in their last bits
        self.arrays = {name: arrays[name] for name in self.arrays}
        self.apply()

    def apply(self) -> None:
        """Let the policy compute with the rounded masters."""
        dtype = self._policy.weight_dtype
        rounded = {name: self.arrays[name].astype(dtype) for name in sorted(self.arrays)}
        mx.eval(rounded)
        self._policy.apply(rounded)
        self._rounded = rounded
