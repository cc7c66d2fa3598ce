"""Gradient checkpointing of a model's layers, for plain passes and for shared prompts.

mlx-lm's own changes the class of a layer for the whole process, and loses the gradient of keys and
values that a cache recorded inside of it.
"""

from typing import Any, cast

import mlx.core as mx
from mlx.utils import tree_map

from learner.forward.prompts import PromptReader, PromptRecorder


def recompute_layers(model: Any) -> None:  # noqa: ANN401
    """Let every layer of a model keep its inputs alone, and compute the rest again for a gradient.

    Source:
        arXiv 1604.06174.
    """
    for layer in model.layers:
        plain = type(layer)
        if not getattr(plain, "is_recomputed", False):
            members = {"__call__": _recomputing(plain), "is_recomputed": True}
            layer.__class__ = type(plain.__name__, (plain,), members)


def _recomputing(plain: type) -> Any:  # noqa: ANN401
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        parts = _Parts(args, kwargs)

        def inner(parameters: Any, arrays: list[mx.array]) -> Any:  # noqa: ANN401
            self.update(parameters)
            args, kwargs, cache = parts.filled(arrays)
            out = plain.__call__(self, *args, **kwargs)
            if isinstance(cache, PromptRecorder):
                out = out, cache.keys_NHPK, cache.values_NHPK
            return _copied(out)

        parameters = self.trainable_parameters()
        found = _uncopied(mx.checkpoint(inner)(parameters, parts.arrays))
        self.update(parameters)  # back to the arrays of the graph outside
        if isinstance(parts.cache, PromptRecorder):
            out, parts.cache.keys_NHPK, parts.cache.values_NHPK = found
            return out
        return found

    return call


def _copied(tree: Any) -> Any:  # noqa: ANN401
    """Each array as one of its own: of one returned twice, mlx loses part of the gradient."""
    return tree_map(lambda a: mx.expand_dims(a, 0) if isinstance(a, mx.array) else a, tree)


def _uncopied(tree: Any) -> Any:  # noqa: ANN401
    return tree_map(lambda a: mx.squeeze(a, 0) if isinstance(a, mx.array) else a, tree)


class _Parts:
    """A layer's arguments, with all arrays that a gradient can reach taken out.

    They may lie in tuples: some models hand one layer's keys and values to another. Masks are
    arrays as well, of booleans; nothing flows to them.
    """

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._arguments = (args, kwargs)
        self.arrays: list[mx.array] = []
        self.cache: PromptRecorder | PromptReader | None = None
        tree_map(self._take, self._arguments)
        if isinstance(self.cache, PromptReader):
            self.arrays += [self.cache.keys_NHPK, self.cache.values_NHPK]

    def filled(self, arrays: list[mx.array]) -> tuple[list[Any], dict[str, Any], Any]:
        """The arguments with other arrays, and the cache among them: a fresh one."""
        left = list(arrays)
        cache: PromptRecorder | PromptReader | None = None
        if isinstance(self.cache, PromptReader):
            values, keys = left.pop(), left.pop()
            cache = PromptReader(keys, values, self.cache.prompts)
        elif isinstance(self.cache, PromptRecorder):
            cache = PromptRecorder()

        def put(value: Any) -> Any:  # noqa: ANN401
            if _flows(value):
                return left.pop(0)
            return cache if value is self.cache and cache is not None else value

        args, kwargs = cast(Any, tree_map(put, self._arguments))
        return args, kwargs, cache

    def _take(self, value: object) -> None:
        if _flows(value):
            self.arrays.append(cast(mx.array, value))
        elif isinstance(value, PromptRecorder | PromptReader):
            self.cache = value


def _flows(value: object) -> bool:
    return isinstance(value, mx.array) and mx.issubdtype(value.dtype, mx.floating)
