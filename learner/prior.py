"""A look at a batch before its first optimizer step: what losses compare the policy with."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from learner.batch import Extra, Microbatch
from learner.critic import Critic, values
from learner.forward.forward import Forward
from learner.masters import Arrays
from learner.reference import Reference


class Prior:
    """Computes, once a batch and without gradients, what the algorithm asks for.

    Args:
        forward: the policy's forward pass.
        critic: gives `old_values`.
        reference: gives `ref_logprobs`.
        proximal: give `proximal_logprobs`: wanted where a batch takes several optimizer steps. In
            the first of them the loss has them anyway.
    """

    def __init__(
        self,
        forward: Forward,
        critic: Critic | None,
        reference: Reference | None,
        *,
        proximal: bool,
    ) -> None:
        self._forward = forward
        self._critic = critic
        self._reference = reference
        self._proximal = proximal

    @property
    def looks(self) -> bool:
        """Whether anything is wanted."""
        return self._proximal or self._critic is not None or self._reference is not None

    def look(self, parts: Sequence[Microbatch], num_samples: int) -> Extra:
        """Figures of the samples in some microbatches.

        Args:
            parts: the microbatches.
            num_samples: samples of the whole batch.
        """
        looked: Extra = {}
        for part in parts:
            for name, figures_BT in self._figures(part).items():
                columns = looked.setdefault(name, [None] * num_samples)
                for index, row in part.rows(np.array(figures_BT)).items():
                    columns[index] = row
        return looked

    def _figures(self, part: Microbatch) -> Arrays:
        found: Arrays = {}
        if self._proximal or self._critic is not None:
            figures = self._forward(part)
            if self._proximal:
                found["proximal_logprobs"] = figures.logprobs_BT
            if self._critic is not None:
                found["old_values"] = values(self._critic.arrays, figures)
        mx.eval(found)
        if self._reference is not None:
            found["ref_logprobs"] = self._reference.logprobs(part)
        return found
