import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reward_workers.sandbox import harness
from reward_workers.sandbox.harness import worker
from reward_workers.sandbox.harness.frames import MAX_FROM_WORKER, MAX_TO_WORKER, receive, send
from reward_workers.sandbox.harness.values import decode, encode, keep

ALONE = """
import socket, sys
sys.path.insert(0, sys.argv[1])
from reward_workers.sandbox.harness import worker
worker.serve(socket.socket(fileno=int(sys.argv[2])))
"""


@pytest.fixture
def alone(tmp_path: Path) -> list[str]:
    """The command, but for a channel's descriptor, of an interpreter with the harness alone."""
    package = tmp_path / "reward_workers" / "sandbox"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package.parent / "__init__.py").touch()
    (package / "harness").symlink_to(Path(str(harness.__file__)).parent)
    return [sys.executable, "-s", "-S", "-P", "-c", ALONE, str(tmp_path)]


class Supervisor:
    """The trusted end of a channel whose other end serves in a thread, unconfined."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.channel, other = socket.socketpair()
        self.channel.settimeout(30)
        self._thread = threading.Thread(target=self._serve, args=(other,))
        self._thread.start()
        self.num_calls = 0
        send(self.channel, job, MAX_TO_WORKER)

    def _serve(self, channel: socket.socket) -> None:
        with channel:
            worker.serve(channel)

    def hear(self) -> dict[str, Any]:
        return receive(self.channel, MAX_FROM_WORKER)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        send(self.channel, request, MAX_TO_WORKER)
        return self.hear()

    def call(self, name: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The answer to one call, without its id."""
        request = {"call": name, "args": encode(list(args)), "kwargs": encode(kwargs)}
        answer = self.ask({**request, "id": self.num_calls})
        assert answer.pop("id") == self.num_calls
        self.num_calls += 1
        return answer

    def close(self) -> None:
        self.channel.close()
        self._thread.join(30)
        assert not self._thread.is_alive()


Serve = Callable[..., Supervisor]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Start a worker on a job; all are ended with the test."""
    started: list[Supervisor] = []
    for name in ("candidate", "tests"):
        monkeypatch.setitem(sys.modules, name, sys)  # so that what was there comes back

    def start(**job: Any) -> Supervisor:
        started.append(Supervisor(job))
        return started[-1]

    yield start
    for supervisor in reversed(started):
        supervisor.close()


def relay(tester: Supervisor, candidate: Supervisor) -> dict[str, Any]:
    """What the tester says at last, its requests having gone to the candidate as values."""
    while True:
        message = tester.hear()
        if "done" in message or "error" in message:
            return message
        answer = candidate.ask(_again(message))
        assert answer["id"] == message["id"]
        send(tester.channel, _again(answer), MAX_TO_WORKER)


def _again(message: dict[str, Any]) -> dict[str, Any]:
    for name in ("value", "args", "kwargs"):
        if name in message:
            message[name] = encode(decode(message[name], handle=keep))
    return message


RunTests = Callable[..., dict[str, Any]]


@pytest.fixture
def run_tests(serve: Serve) -> RunTests:
    """The last message of a tester on the tests of one candidate."""

    def run(code: str, *tests: str, entry: str = "f", support: str = "") -> dict[str, Any]:
        candidate = serve(mode="calls", code=code, entry=entry, handles=True)
        callables = candidate.hear()["loaded"]
        tester = serve(
            mode="tester", tests=list(tests), support=support, entry=entry, callables=callables
        )
        return relay(tester, candidate)

    return run
