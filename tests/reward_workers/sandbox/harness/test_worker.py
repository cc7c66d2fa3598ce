import resource
import socket
import subprocess
import sys
from typing import Any

import pytest

from reward_workers.sandbox.harness import worker
from reward_workers.sandbox.harness.frames import MAX_FROM_WORKER, MAX_TO_WORKER, receive, send
from reward_workers.sandbox.harness.values import encode

HOG = """
kept = []
def f():
    while True: kept.append([0] * 50)
def g():
    global kept
    kept = bytearray(1)
    while True: kept = kept * 2
"""


def limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (300 << 20, 300 << 20))


@pytest.mark.skipif(sys.platform != "linux", reason="XNU refuses an absolute limit")
@pytest.mark.parametrize("name", ["f", "g"])
def test_short_memory_is_told_while_the_memory_is_still_held(alone: list[str], name: str):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(60)
        process = subprocess.Popen(
            [*alone, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            preexec_fn=limit_memory,
        )
        send(ours, {"mode": "calls", "code": HOG, "entry": name}, MAX_TO_WORKER)
        receive(ours, MAX_FROM_WORKER)
        call = {"call": name, "args": [], "kwargs": encode({}), "id": 0}
        send(ours, call, MAX_TO_WORKER)
        answer = receive(ours, MAX_FROM_WORKER)
        ours.shutdown(socket.SHUT_WR)
        process.wait(30)
    assert answer["error"]["type"] == "MemoryError"


def test_the_harness_needs_nothing_but_the_standard_library(alone: list[str]):
    code = "import sys\nprint(sorted(m for m in sys.modules if m.startswith('reward_workers')))"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(ours, {"mode": "stdio", "code": code, "stdin": ""}, MAX_TO_WORKER)
        ended = subprocess.run(
            [*alone, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            capture_output=True,
            timeout=60,
            check=True,
        )
    assert b"reward_workers.sandbox.harness.worker" in ended.stdout
    assert b"jobs" not in ended.stdout


def test_a_supervisor_without_a_job_is_an_end_of_file():
    ours, theirs = socket.socketpair()
    ours.close()
    with theirs, pytest.raises(EOFError):
        worker.serve(theirs)


def test_an_unknown_mode_is_not_served():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(ours, {"mode": "none"}, MAX_TO_WORKER)
        with pytest.raises(KeyError):
            worker.serve(theirs)


def test_usual_imports_are_there_after_the_preload(serve: Any):
    worker.preload()
    assert {"heapq", "dataclasses", "string"} <= set(sys.modules)
