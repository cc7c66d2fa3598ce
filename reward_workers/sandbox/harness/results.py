"""What a call returned, as the wire has it: coroutines are run, iterators are drained."""

import json
from collections.abc import Callable, Iterator
from types import CoroutineType

from reward_workers.sandbox.harness.frames import MAX_FROM_WORKER
from reward_workers.sandbox.harness.plain import Handle, Json, Value
from reward_workers.sandbox.harness.values import encode

MAX_ITEMS = 100_000
MAX_ITEMS_BYTES = MAX_FROM_WORKER * 7 // 8

_VIEWS = (range, type({}.keys()), type({}.values()), type({}.items()))
_OWN_ITERATORS = ("builtins", "itertools")


def finish(result: Value) -> tuple[Value, str | None]:
    """The result, and its form where it was a coroutine."""
    if type(result) is not CoroutineType:
        return result, None
    import asyncio  # it takes long to load, and few candidates need it

    return asyncio.run(result), "coroutine"


def is_iterator(value: Value) -> bool:
    """Whether it is one of Python's own iterators or views; a foreign class stays an object."""
    kind = type(value)
    return kind in _VIEWS or (kind.__module__ in _OWN_ITERATORS and isinstance(value, Iterator))


def drain(iterator: Value, otherwise: Callable[[object], Handle]) -> tuple[list[Json], str]:
    """The encoded items, and "endless" where they are only the first ones."""
    items: list[Json] = []
    num_bytes = 0
    for item in iterator:
        if len(items) >= MAX_ITEMS or num_bytes > MAX_ITEMS_BYTES:
            return items, "endless"
        items.append(encode(item, otherwise=otherwise, max_bytes=MAX_FROM_WORKER))
        num_bytes += len(json.dumps(items[-1])) + 1
    return items, "iterator"
