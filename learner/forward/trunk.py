"""A model as trunk and head, so that logits need not stand in memory for all tokens at once."""

import logging
from typing import Any, cast

import mlx.core as mx
from mlx.utils import tree_flatten, tree_unflatten

from protocol.policy import logits

log = logging.getLogger("learner.forward")

_PROBE = ((1, 2, 3, 4),)
"""Token ids that any vocabulary has."""


class SplitModel:
    """An mlx-lm model whose forward pass stops at the hidden states.

        model(tokens) = head(trunk(tokens))

    mlx-lm's models all say this in their `__call__`, each with a head of its own (tied or not,
    scaled, capped), which is run here as it stands, with hidden states in the trunk's place. A
    model that is put together otherwise is found out by comparing the two sides; its "hidden
    states" are then the logits.

    Args:
        model: an mlx-lm model.
    """

    def __init__(self, model: Any) -> None:  # noqa: ANN401 - mlx-lm's models have no common type
        self.model = model
        self.is_split = self._can_split()
        if not self.is_split:
            log.warning(
                "%s cannot be split into trunk and head: logits of whole microbatches stand in "
                "memory; lower learner.microbatch_tokens if it is too much",
                type(model).__module__,
            )

    def hidden(self, tokens_BT: mx.array, cache: list[Any] | None = None) -> mx.array:
        """Hidden states [B, T, D] that the head turns into logits of the next token."""
        if self.is_split:
            return self.model.model(tokens_BT, cache)
        return logits(self.model, tokens_BT, cache)

    def logits(self, hidden_ND: mx.array) -> mx.array:
        """Logits [N, V] in fp32."""
        if not self.is_split:
            return hidden_ND
        return self._head(hidden_ND[None])[0].astype(mx.float32)

    def head_parameters(self) -> dict[str, mx.array]:
        """Trainable parameters outside of the layers, by path: all that the head can depend on."""
        if not self.is_split:
            return {}
        every = cast("list[tuple[str, mx.array]]", tree_flatten(self.model.trainable_parameters()))
        return {name: array for name, array in every if ".layers." not in f".{name}"}

    def use_head_parameters(self, parameters: dict[str, mx.array]) -> None:
        """Compute the head with these from now on."""
        if parameters:
            self.model.update(tree_unflatten(list(parameters.items())))

    def _head(self, hidden_BTD: mx.array) -> mx.array:
        return type(self.model).__call__(_HeadView(self.model), hidden_BTD)

    def _can_split(self) -> bool:
        tokens_BT = mx.array(_PROBE)
        try:
            split = self._head(self.model.model(tokens_BT, None))
        except (AttributeError, TypeError, ValueError):
            return False
        whole = self.model(tokens_BT)
        return split.shape == whole.shape and bool(mx.array_equal(split, whole))


class _GivenHidden:
    """Stands in for a trunk: gives back hidden states that were computed before."""

    def __init__(self, trunk: Any) -> None:  # noqa: ANN401
        self._trunk = trunk

    def __call__(self, hidden_BTD: mx.array, *_args: object, **_kwargs: object) -> mx.array:
        return hidden_BTD

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._trunk, name)


class _HeadView:
    """A model whose trunk is `_GivenHidden`; all else is the model's."""

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        self._model = model
        self.model = _GivenHidden(model.model)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._model, name)
