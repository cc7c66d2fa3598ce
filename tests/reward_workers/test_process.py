import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from protocol.errors import ConfigError
from protocol.messages import (
    Goodbye,
    Heartbeat,
    Hello,
    Message,
    SampleAck,
    Score,
    ScoreAcks,
    Welcome,
)
from protocol.process import this_host
from protocol.transport import Channel, LearnerSockets
from protocol.wire import decode, encode

CONFIG = {
    "model": {"path": "builtin:tiny"},
    "data": {"train": ["arithmetic:add2"]},
    "rewards": [{"name": "exact_match"}],
}
WAIT_SECONDS = 30.0


class Learner:
    """A learner's sockets, and one reward worker's process that dials them."""

    def __init__(self) -> None:
        self.sockets, self.port = bind_anywhere()
        self.process = self.start()
        self.routing_id = b""

    def start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "reward_workers", "--learner", f"tcp://127.0.0.1:{self.port}"],
            env={**os.environ, "MLX_RL_SUPERVISED": "1", "RUN_ID": "r"},
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, wanted: Callable[[Message], bool]) -> Message:
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            for arrival in self.sockets.receive(0.1):
                self.routing_id = arrival.routing_id
                message = decode(arrival.frames).message
                if wanted(message):
                    return message
        raise AssertionError("the worker did not say what was wanted")

    def send(self, channel: Channel, message: Message) -> None:
        assert self.sockets.send(channel, self.routing_id, encode(message))

    def welcome(self, run_dir: object, **changes: object) -> None:
        hello = self.wait_for(lambda message: isinstance(message, Hello))
        assert isinstance(hello, Hello)
        assert (hello.role, hello.pid, hello.run_id) == ("reward_worker", self.process.pid, "r")
        message = Welcome(
            run_id="r",
            run_epoch=1,
            policy_version=0,
            config=json.dumps(CONFIG | changes),
            host=this_host(),
            run_dir=str(run_dir),
        )
        self.send(Channel.CONTROL, message)


def bind_anywhere() -> tuple[LearnerSockets, int]:
    while True:
        port = random.randrange(20_000, 32_000, 4)  # below the ports of outgoing connections
        with contextlib.suppress(ConfigError):
            return LearnerSockets("127.0.0.1", port), port


@pytest.fixture
def learner():
    running = Learner()
    yield running
    running.process.kill()
    running.process.communicate()
    running.sockets.close()


def test_a_worker_scores_logs_into_the_run_and_leaves_at_sigterm(learner, make_work, tmp_path):
    learner.welcome(tmp_path)
    learner.wait_for(lambda message: isinstance(message, Heartbeat) and message.capacity == 32)
    learner.send(Channel.ROLLOUTS, make_work("85"))
    score = learner.wait_for(lambda message: isinstance(message, Score))
    assert isinstance(score, Score)
    assert (score.reward, score.rewards[0].name) == (1.0, "exact_match")
    ack = SampleAck(group_id=7, attempt=1, sample=0)
    learner.send(Channel.ROLLOUTS, ScoreAcks(acks=(ack,)))
    learner.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    goodbye = learner.wait_for(lambda message: isinstance(message, Goodbye))
    assert isinstance(goodbye, Goodbye)
    assert (learner.process.wait(5), goodbye.reason) == (0, "stopped by SIGTERM")
    assert time.monotonic() - began < 1.5
    log_file = tmp_path / "logs" / f"reward_worker-{learner.process.pid}.log"
    assert "rewards: exact_match" in log_file.read_text()


def test_rewards_that_are_missing_here_end_the_process_with_code_2(learner, tmp_path):
    learner.welcome(tmp_path, rewards=[{"name": "gone/mine.py:f"}])
    goodbye = learner.wait_for(lambda message: isinstance(message, Goodbye))
    assert isinstance(goodbye, Goodbye)
    assert "gone/mine.py" in goodbye.reason
    _, errors = learner.process.communicate(timeout=WAIT_SECONDS)
    assert learner.process.returncode == 2
    assert errors.splitlines()[-1].startswith("error: reward 'gone/mine.py:f' cannot be loaded: no")


def test_a_child_that_is_killed_as_it_starts_ends_the_process_with_code_1(learner, tmp_path):
    path = tmp_path / "killed.py"
    path.write_text("import os\nos.kill(os.getpid(), 9)\n")
    learner.welcome(tmp_path, rewards=[{"name": f"{path}:f"}])
    _, errors = learner.process.communicate(timeout=WAIT_SECONDS)
    assert learner.process.returncode == 1  # which is restarted
    assert errors.splitlines()[-1].endswith("its process was killed by SIGKILL")


def test_a_hanging_reward_does_not_hold_up_the_end(learner, make_work, tmp_path):
    path, called = tmp_path / "slow.py", tmp_path / "called"
    path.write_text(
        "import pathlib, time\n"
        "def f(completions):\n"
        f"    pathlib.Path({str(called)!r}).touch()\n"
        "    time.sleep(600)\n"
    )
    learner.welcome(tmp_path, rewards=[{"name": f"{path}:f"}])
    learner.wait_for(lambda message: isinstance(message, Heartbeat) and message.capacity == 32)
    learner.send(Channel.ROLLOUTS, make_work("85"))
    learner.wait_for(lambda _: called.exists())
    learner.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert learner.process.wait(5) == 0
    assert time.monotonic() - began < 1.5
