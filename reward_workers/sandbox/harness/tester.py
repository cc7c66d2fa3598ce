"""Tester mode: a data set's test code, run where the candidate is but a proxy."""

import functools
import importlib
import keyword
import socket
import sys
from collections.abc import Iterable
from types import ModuleType

from reward_workers.sandbox.harness.errors import cut, error_of
from reward_workers.sandbox.harness.frames import MAX_FROM_WORKER, FrameError, pack, send
from reward_workers.sandbox.harness.outcomes import Outcome, run_item
from reward_workers.sandbox.harness.plain import Json
from reward_workers.sandbox.harness.programs import execute, new_module
from reward_workers.sandbox.harness.proxies import Link, Proxy

_RESERVED_MODULES = (
    *("builtins", "collections", "copy", "decimal", "fractions", "functools", "itertools"),
    *("datetime", "json", "math", "operator", "random", "re", "statistics", "typing"),
)


def run(channel: socket.socket, job: dict[str, Json]) -> None:
    """Prepare the namespace, run every item, and send the outcomes."""
    link = Link(channel)
    try:
        module, candidate = _prepare(link, job)
        items = {f"test_{number}.py": source for number, source in enumerate(job["tests"])}
        for filename, source in items.items():
            compile(source, filename, "exec", dont_inherit=True)
    except BaseException as error:  # noqa: BLE001 - foreign code, which may raise anything
        described = error_of(error, "load")
        message = cut(f"{described['type']}: {described['message']}")
        described |= {"type": "TestError", "message": message}
        send(channel, {"error": described}, MAX_FROM_WORKER)
        return
    outcomes: list[Outcome] = []
    for filename, source in items.items():
        before = link.num_calls
        of_item = run_item(source, filename, module, candidate)
        if link.num_calls > before or not all(outcome["ok"] for outcome in of_item):
            outcomes.extend(of_item)  # else it only prepares the others
    channel.sendall(_done(outcomes, link.num_calls))


def _prepare(link: Link, job: dict[str, Json]) -> tuple[ModuleType, Proxy]:
    """The tests' namespace: proxies, over them the support's own, over that the entry."""
    entry: str = job["entry"]
    module = new_module("tests")
    for name in _offered(job["callables"]):
        setattr(module, name, Proxy(link, name, "function"))
    execute(job["support"], "support.py", module)
    candidate = Proxy(link, entry, "function")
    module.__dict__["candidate"] = candidate
    name, _, method = entry.partition(".")
    module.__dict__[name] = Proxy(link, name, "type") if method else candidate
    return module, candidate


_TESTERS_WORDS = (
    *("allclose", "approx", "array", "array_equal", "assert_allclose", "assert_almost_equal"),
    *("assert_array_equal", "assert_equal", "main", "raises", "skip"),
)
"""Of pytest and numpy.testing, which are not here: a test that means them must fail."""


@functools.cache
def _reserved() -> frozenset[str]:
    """Names that a test means in Python's sense, even where it forgets to import them: a
    candidate's `abs` or `isclose` would judge itself."""  # noqa: D205, D209
    modules = map(importlib.import_module, _RESERVED_MODULES)
    named = {"candidate", "check", "np", "numpy", "pd", "pandas", "pytest", *_TESTERS_WORDS}
    return frozenset(named.union(sys.stdlib_module_names, *map(dir, modules)))


def _offered(callables: Iterable[Json]) -> list[str]:
    """Of the candidate's names those that take no other name's place in a test."""
    return [
        name
        for name in callables
        if isinstance(name, str)
        and name.isidentifier()
        and not keyword.iskeyword(name)
        and not name.startswith(("_", "test"))
        and name not in _reserved()
    ]


def _done(outcomes: list[Outcome], num_calls: int) -> bytes:
    try:
        return pack({"done": outcomes, "num_calls": num_calls}, MAX_FROM_WORKER)
    except FrameError:
        short = [{"ok": outcome["ok"], "detail": ""} for outcome in outcomes]
        return pack({"done": short, "num_calls": num_calls}, MAX_FROM_WORKER)
