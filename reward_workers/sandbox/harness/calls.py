"""Calls mode: the candidate's code is loaded once, then called by name. Judges nothing."""

import json
import mmap
import socket
from types import ModuleType

from reward_workers.sandbox.harness.errors import RESERVE_BYTES, error_of
from reward_workers.sandbox.harness.frames import (
    MAX_FROM_WORKER,
    MAX_TO_WORKER,
    FrameError,
    pack,
    receive,
    send,
)
from reward_workers.sandbox.harness.handles import Handles
from reward_workers.sandbox.harness.plain import Handle, Json, NotPlain, TooLarge, Value
from reward_workers.sandbox.harness.programs import callables_of, execute, new_module
from reward_workers.sandbox.harness.results import drain, finish, is_iterator
from reward_workers.sandbox.harness.values import decode, encode

_OUTPUT_LIMIT = {
    "type": "OutputLimit",
    "message": f"the value takes more than {MAX_FROM_WORKER} bytes",
    "where": "result",
}


def run(channel: socket.socket, job: dict[str, Json]) -> None:
    """Load the code, then answer requests until the supervisor hangs up."""
    reserve = mmap.mmap(-1, RESERVE_BYTES)
    module = new_module("candidate")
    try:
        execute(job["code"], "candidate.py", module)
        _find(module, job["entry"])
        loaded = {"loaded": callables_of(module)}
        frame = pack(loaded, MAX_FROM_WORKER)
    except BaseException as error:  # noqa: BLE001 - foreign code, which may raise anything
        reserve.close()
        send(channel, {"error": error_of(error, "load")}, MAX_FROM_WORKER)
        return
    channel.sendall(frame)
    candidate = Candidate(module, Handles() if job.get("handles") else None, reserve)
    while True:
        try:
            request = receive(channel, MAX_TO_WORKER)
        except EOFError:
            return
        channel.sendall(candidate.answer(request))


class Candidate:
    """The loaded module, and the handles that were given out."""

    def __init__(self, module: ModuleType, handles: Handles | None, reserve: mmap.mmap) -> None:
        self._module = module
        self._handles = handles
        self._give = handles.give if handles else None
        self._take = handles.take if handles else None
        self._reserve = reserve

    def answer(self, request: dict[str, Json]) -> bytes:
        """The frame that answers one request."""
        number = request["id"]
        try:
            answer = self._perform(request)
            return self._fitting({**answer, "id": number})
        except TooLarge:
            answer = {"error": _OUTPUT_LIMIT}
        except NotPlain as error:
            answer = {"error": error_of(error, "result") | {"type": "NotPlain"}}
        except BaseException as error:  # noqa: BLE001 - foreign code, which may raise anything
            self._reserve.close()
            answer = {"error": error_of(error, "call")}
        return pack({**answer, "id": number}, MAX_FROM_WORKER)

    def _perform(self, request: dict[str, Json]) -> dict[str, Json]:
        if "attribute" in request:
            value = getattr(self._target(request["of"]), request["attribute"])
            return {"value": self._encode(value)}
        if "assign" in request:
            value = decode(request["value"], handle=self._take)
            setattr(self._target(request["of"]), request["assign"], value)
            return {"value": None}
        return self._call(request)

    def _call(self, request: dict[str, Json]) -> dict[str, Json]:
        args = decode(request["args"], handle=self._take)
        kwargs = decode(request["kwargs"], handle=self._take)
        before = json.dumps(self._encode_args(args))  # as text: 1 is not True
        target = self._target(request["call"])
        result, form = finish(target(*args, **kwargs))
        if self._give and is_iterator(result):
            value, form = drain(result, self._give)
        else:
            value = self._encode(result)
        answer = {"value": value}
        if self._give and form:
            answer["form"] = form
        if result is None:
            after = self._encode_args(args)
            if after is not None and json.dumps(after) != before:
                answer["args"] = after
        return answer

    def _target(self, target: str | int) -> Value:
        if self._handles and isinstance(target, int):
            return self._handles.take(Handle(target, ""))
        name, _, method = str(target).partition(".")
        value = _find(self._module, name)
        if not method:
            return value
        return getattr(value() if isinstance(value, type) else value, method)

    def _encode(self, value: Value) -> Json:
        return encode(value, otherwise=self._give, max_bytes=MAX_FROM_WORKER)

    def _encode_args(self, args: list[Value]) -> Json | None:
        try:
            return encode(args, otherwise=self._give, max_bytes=MAX_TO_WORKER)
        except NotPlain:
            return None

    def _fitting(self, answer: dict[str, Json]) -> bytes:
        try:
            return pack(answer, MAX_FROM_WORKER)
        except FrameError:
            answer.pop("args", None)
        try:
            return pack(answer, MAX_FROM_WORKER)
        except FrameError:
            raise TooLarge("longer than a frame may be") from None


def _find(module: ModuleType, entry: str) -> Value:
    """What a name stands for in the module; of Class.method, the class.

    Raises:
        NameError, AttributeError, TypeError: it is not there, or cannot be called.
    """
    name, _, method = entry.partition(".")
    if name not in module.__dict__:
        raise NameError(f"name {name!r} is not defined")
    value = module.__dict__[name]
    if not callable(getattr(value, method) if method else value):
        raise TypeError(f"{entry} is not callable")
    return value
