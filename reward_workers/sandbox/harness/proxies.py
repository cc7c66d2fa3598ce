"""What stands for the candidate in the tester's process: calls go out, plain values come back.

A proxy never asks the candidate whether it equals something, is true, or contains something: the
candidate would see the expected value and agree. Equality is identity, and membership is searched
here among the items.
"""

import builtins
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from reward_workers.sandbox.harness.frames import (
    MAX_FROM_WORKER,
    MAX_TO_WORKER,
    FrameError,
    receive,
    send,
)
from reward_workers.sandbox.harness.plain import Handle, Json, NotPlain, Value, shown
from reward_workers.sandbox.harness.values import decode, encode


class CandidateError(Exception):
    """An exception of the candidate's that is not one of Python's own, or a refused value."""


class Link:
    """The tester's way to the candidate: one request at a time, and the proxies made so far."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self.num_calls = 0

    def call(self, callee: "Proxy", args: tuple[Any, ...], kwargs: dict[str, Any]) -> Value:
        """What the candidate returned; a call that returned None may have changed its arguments.

        One that returns a value may not: `assert f(xs) == sorted(xs)` would be passed by code that
        empties `xs` and returns what is left.

        Raises:
            Exception: what the candidate raised, or CandidateError.
        """
        sent = self._encode(list(args))
        request = {"call": callee._target, "args": sent, "kwargs": self._encode(kwargs)}
        answer = self._ask(request)
        value = _formed(self._decode(answer["value"], callee._owner), answer.get("form"))
        if value is None and "args" in answer:
            for old, new in zip(args, self._decode(answer["args"]), strict=True):
                change(old, new)
        return value

    def attribute(self, of: str | int, name: str) -> Value:
        """An attribute's value; a method comes as a proxy."""
        return self._decode(self._ask({"attribute": name, "of": of})["value"])

    def assign(self, of: str | int, name: str, value: Value) -> None:
        """Set an attribute."""
        self._ask({"assign": name, "of": of, "value": self._encode(value)})

    def _ask(self, request: dict[str, Json]) -> dict[str, Json]:
        with self._lock:
            try:
                send(self._channel, {**request, "id": self.num_calls}, MAX_FROM_WORKER)
            except FrameError as error:
                raise CandidateError(f"cannot be sent: {error}") from None
            self.num_calls += 1
            answer = receive(self._channel, MAX_TO_WORKER)
        if "error" in answer:
            raise exception_of(answer["error"])
        return answer

    def _encode(self, value: Value) -> Json:
        try:
            return encode(value, otherwise=_handle_of, max_bytes=MAX_FROM_WORKER)
        except NotPlain as error:  # a ValueError, which the test may expect of the candidate
            raise CandidateError(f"cannot be sent: {error}") from None

    def _decode(self, wire: Json, owner: "Proxy | None" = None) -> Value:
        """The value, its handles as new proxies: what comes twice is no proof of being equal, or a
        class with one instance would pass `assert f(3) == Point(3, 4)`. Only what a method returns
        of its own object is that object, so that calls can be chained."""  # noqa: D205, D209

        def proxy(handle: Handle) -> Proxy:
            if owner is not None and handle.number == owner._target:
                return owner
            return Proxy(self, handle.number, handle.class_name)

        return decode(wire, handle=proxy)


class Proxy:
    """A top-level callable of the candidate's, or an object of its own."""

    def __init__(self, link: Link, target: str | int, class_name: str) -> None:
        object.__setattr__(self, "_link", link)
        object.__setattr__(self, "_target", target)
        object.__setattr__(self, "_class_name", class_name)
        object.__setattr__(self, "_methods", {})
        object.__setattr__(self, "_owner", None)

    def __call__(self, *args: Value, **kwargs: Value) -> Value:
        """Call what it stands for."""
        return self._link.call(self, args, kwargs)

    def __getattr__(self, name: str) -> Value:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._attribute(name)

    def __setattr__(self, name: str, value: Value) -> None:
        self._methods.pop(name, None)
        self._link.assign(self._target, name, value)

    def __len__(self) -> int:
        try:
            length = self._attribute("__len__")
        except AttributeError:  # as Python says it, and as list() and others expect
            raise TypeError("it has no len()") from None
        return length()

    def __iter__(self) -> Iterator[Value]:
        found = self._attribute("__iter__")()
        return found if type(found) is Proxy else iter(found)

    def __next__(self) -> Value:
        try:
            return self._attribute("__next__")()
        except CandidateError as error:
            if str(error).startswith("StopIteration"):
                raise StopIteration from None
            raise

    def __getitem__(self, key: Value) -> Value:
        return self._attribute("__getitem__")(key)

    def __setitem__(self, key: Value, value: Value) -> None:
        self._attribute("__setitem__")(key, value)

    def __str__(self) -> str:
        return self._attribute("__str__")()

    def __repr__(self) -> str:
        return self._attribute("__repr__")()

    def __bool__(self) -> bool:
        for name in ("__bool__", "__len__"):
            with contextlib.suppress(AttributeError):
                self._attribute(name)
                raise CandidateError("the truth of the candidate's objects is not supported")
        return True  # as Python has it for an object without either

    def __eq__(self, other: object) -> bool:
        if other is self or other is None:
            return other is self
        raise CandidateError("what the candidate's objects are equal to cannot be told")

    __hash__ = object.__hash__

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, Proxy) and instance._class_name == self._target

    def _attribute(self, name: str) -> Value:
        """An attribute's value, asked for each time; a method's proxy is kept."""
        if name not in self._methods:
            value = self._link.attribute(self._target, name)
            if not (isinstance(value, Proxy) and value._class_name in _METHODS):
                return value
            object.__setattr__(value, "_owner", self)
            self._methods[name] = value
        return self._methods[name]


def _refuse(operator: str) -> Callable[..., Value]:
    def refuse(*_: Value) -> Value:
        raise CandidateError(f"{operator} of the candidate's objects is not supported")

    return refuse


_OPERATORS = (
    *("lt", "le", "gt", "ge", "add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv"),
    *("floordiv", "rfloordiv", "mod", "rmod", "pow", "rpow", "matmul", "and", "rand", "or", "ror"),
    *("xor", "rxor", "neg", "pos", "abs", "invert", "delitem", "enter", "exit"),
)
for _operator in _OPERATORS:  # a TypeError, which Python would raise, may be what a test expects
    setattr(Proxy, f"__{_operator}__", _refuse(_operator))

_METHODS = frozenset(
    ("method", "function", "builtin_function_or_method", "method-wrapper", "wrapper_descriptor")
)


def change(old: Value, new: Value) -> None:
    """Make a mutable argument equal to what the candidate made of it; it stays the same object."""
    if type(old) is not type(new):
        return
    if type(old) in (list, bytearray):
        old[:] = new
    elif type(old) in (dict, set):
        old.clear()
        old.update(new)


def exception_of(error: dict[str, Json]) -> Exception:
    """The exception to raise for an ERROR: Python's own by its name, or CandidateError.

    StopIteration would end a loop over `map(candidate, ...)` as if all had been well.
    """
    name, message = error["type"], error["message"]
    kind = getattr(builtins, name, None) if error["where"] == "call" else None
    stops = (StopIteration, StopAsyncIteration)
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, stops):
        try:
            return kind(message)
        except TypeError:  # such as UnicodeDecodeError, which wants more than a message
            pass
    return CandidateError(f"{name}: {message}" if message else name)


def _handle_of(value: object) -> Handle | None:
    if type(value) is Proxy and type(value._target) is int:
        return Handle(value._target, value._class_name)
    return None


def _formed(value: Value, form: str | None) -> Value:
    if form == "iterator":
        return iter(value)
    if form == "endless":
        return _first(value)
    if form == "coroutine":
        return _returned(value)
    return value


def _first(items: list[Value]) -> Iterator[Value]:
    yield from items
    raise CandidateError(
        f"only the first {len(items)} items were sent; the last: {shown(items[-1])}"
    )


async def _returned(value: Value) -> Value:
    return value
