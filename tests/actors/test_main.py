"""`python -m actors` as a real process; the test is the learner that it dials."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.fingerprint import fingerprint
from protocol.messages import Hello
from protocol.supervise import SUPERVISED
from protocol.transport import LearnerSockets
from protocol.wire import decode

WAIT_SECONDS = 60.0

TOLD_TO_END_IN_AN_IMPORT = """
import runpy, signal, sys

class Finder:
    begun = False

    def find_spec(self, name, path=None, target=None):
        if self.begun:
            signal.raise_signal(signal.SIGTERM)
        self.begun = name == "mlx.core"

sys.meta_path.insert(0, Finder())
sys.argv[0] = "actors"
runpy.run_module("actors", run_name="__main__")
"""
"""What mlx.core imports itself, while it is initialised, is the first import after its own."""


@pytest.fixture
def actor(free_port: int, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "actors", "--learner", f"tcp://127.0.0.1:{free_port}"],
        env={**os.environ, SUPERVISED: "1", "TMPDIR": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def first_hello(port: int) -> Hello:
    learner = LearnerSockets("127.0.0.1", port)
    deadline = time.monotonic() + WAIT_SECONDS
    try:
        while time.monotonic() < deadline:
            for arrival in learner.receive(1.0):
                message = decode(arrival.frames).message
                if isinstance(message, Hello):
                    return message
    finally:
        learner.close()
    raise AssertionError("no Hello came")


def test_its_hello_says_what_it_computes_with(actor, free_port: int):
    hello = first_hello(free_port)
    assert (hello.role, hello.pid) == ("actor", actor.pid)
    assert {"platform", "python", "chip", "mlx", "compile"} <= hello.fingerprint.keys()
    ours = fingerprint() | {"compile": "", "compiler": ""}  # these tests run without
    theirs = hello.fingerprint | {"compile": "", "compiler": ""}
    assert theirs == theirs | ours


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_soon_and_leaves_no_file(
    actor, free_port: int, tmp_path: Path, number: signal.Signals, code: int
):
    first_hello(free_port)
    assert list(tmp_path.iterdir()) != []
    told_at = time.monotonic()
    actor.send_signal(number)
    assert actor.wait(WAIT_SECONDS) == code
    assert time.monotonic() - told_at < 3.5
    assert list(tmp_path.iterdir()) == []


def test_a_sigterm_while_it_starts_leaves_no_file(actor, tmp_path: Path):
    deadline = time.monotonic() + WAIT_SECONDS
    while not list(tmp_path.iterdir()):
        assert time.monotonic() < deadline, "it made no folder"
        time.sleep(0.01)
    actor.terminate()  # most likely in the midst of importing mlx, which may take longer than 3 s
    code = actor.wait(WAIT_SECONDS)
    assert code in (0, 128 + signal.SIGTERM), actor.stderr.read()
    assert list(tmp_path.iterdir()) == []


def test_a_sigterm_in_the_midst_of_an_import_is_no_failure(free_port: int, tmp_path: Path):
    address = f"tcp://127.0.0.1:{free_port}"
    done = subprocess.run(
        [sys.executable, "-c", TOLD_TO_END_IN_AN_IMPORT, "--learner", address],
        env={**os.environ, SUPERVISED: "1", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []


def test_without_an_address_it_says_how_to_give_one():
    environment = {name: value for name, value in os.environ.items() if name != "LEARNER"}
    done = subprocess.run(
        [sys.executable, "-m", "actors"],
        env={**environment, SUPERVISED: "1"},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
    )
    assert done.returncode == 2
    wanted = "error: no learner address: give --learner tcp://HOST:PORT or set LEARNER"
    assert done.stderr.splitlines()[-1] == wanted
