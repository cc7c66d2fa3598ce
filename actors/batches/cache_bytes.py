"""What mlx-lm's caches of one batch take, by token."""

from collections.abc import Iterator, Sequence
from typing import Any


def bytes_per_token(caches: Sequence[Any]) -> float | None:
    """Bytes of one row's keys and values for one token, over all layers.

    Layers that keep something else, of one size, count nothing.

    Returns:
        None while no layer holds anything.
    """
    layers = list(_flattened(caches))
    if all(layer.empty() for layer in layers):
        return None
    return sum(
        array.nbytes / (array.shape[0] * max(array.shape[2], 1))
        for layer in layers
        for array in (getattr(layer, "keys", None), getattr(layer, "values", None))
        if array is not None
    )


def _flattened(caches: Sequence[Any]) -> Iterator[Any]:
    """Each cache, and for a list of caches those in it."""
    for cache in caches:
        inner = getattr(cache, "caches", None)
        if inner is None:
            yield cache
        else:
            yield from _flattened(inner)
