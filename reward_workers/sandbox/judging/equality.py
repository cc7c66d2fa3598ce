"""When a returned value equals the expected one: types count, floats have a tolerance."""

import math
from collections.abc import Hashable
from typing import Any

from reward_workers.sandbox.jobs import Equality


def equal(expected: object, returned: object, equality: Equality = Equality()) -> bool:
    """Whether two plain values (harness/values.py) are the same by the rules of `equality`.

    Types count: True is not 1, 1 is not 1.0. Floats, by |a - b| <= tolerance * max(1, |a|, |b|);
    infinities equal themselves, and NaN nothing unless `nan_equal`. Keys of dicts and elements of
    sets are exact. Walks by a stack of its own: depth is no matter.
    """
    pairs: list[tuple[Any, Any]] = [(expected, returned)]
    while pairs:
        wanted, found = pairs.pop()
        kind = type(wanted)
        if kind is not type(found) and not (
            equality.tuples_as_lists and kind in (list, tuple) and type(found) in (list, tuple)
        ):
            return False
        if kind is float:
            if not _close(wanted, found, equality):
                return False
        elif kind in (list, tuple):
            if len(wanted) != len(found):
                return False
            pairs.extend(zip(wanted, found, strict=True))
        elif kind is dict:
            values = _values_by_key(wanted, found, equality)
            if values is None:
                return False
            pairs.extend(values)
        elif kind in (set, frozenset):
            if len(wanted) != len(found) or _keys(wanted, equality) != _keys(found, equality):
                return False
        elif wanted != found:
            return False
    return True


def _close(wanted: float, found: float, equality: Equality) -> bool:
    if math.isnan(wanted) or math.isnan(found):
        return equality.nan_equal and math.isnan(wanted) and math.isnan(found)
    if math.isinf(wanted) or math.isinf(found):
        return wanted == found
    tolerance = equality.tolerance
    return math.isclose(wanted, found, rel_tol=tolerance, abs_tol=tolerance)


def _values_by_key(
    wanted: dict[Any, Any], found: dict[Any, Any], equality: Equality
) -> list[tuple[Any, Any]] | None:
    """Values that belong to the same keys; None when the keys differ."""
    if len(wanted) != len(found):
        return None
    found_values = {_key(key, equality): value for key, value in found.items()}
    pairs: list[tuple[Any, Any]] = []
    for key, value in wanted.items():
        typed = _key(key, equality)
        if typed not in found_values:
            return None
        pairs.append((value, found_values[typed]))
    return pairs


def _keys(values: set[Any] | frozenset[Any], equality: Equality) -> set[Any]:
    return {_key(value, equality) for value in values}


def _key(value: Any, equality: Equality) -> Hashable:  # noqa: ANN401 - any hashable value
    """A stand-in for a key whose == is ours: 1, 1.0 and True differ, also within tuples."""
    kind = type(value)
    if kind is tuple:
        return (kind, *(_key(part, equality) for part in value))
    if kind is frozenset:
        return (kind, frozenset(_keys(value, equality)))
    if kind is float and math.isnan(value):
        return (kind, "nan" if equality.nan_equal else object())
    return (kind, value)
