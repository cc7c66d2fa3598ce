"""Garbage on every port of a running learner: counted, and nothing dies of it."""

import random
import re
import socket

import pytest
import zmq

from learner.audit import audit

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

NUM_MESSAGES = 1000
NOTICE = 3


def random_frames(rng: random.Random) -> list[bytes]:
    return [rng.randbytes(rng.choice((0, 1, 8, 200, 5000))) for _ in range(rng.randint(1, 6))]


def num_rejected(text: str) -> dict[str, float]:
    """By channel."""
    found: dict[str, float] = {}
    pattern = r'^mlxrl_wire_rejected_total\{channel="(\w+)",reason="\w+"\} (\S+)$'
    for channel, number in re.findall(pattern, text, re.MULTILINE):
        found[channel] = found.get(channel, 0.0) + float(number)
    return found


def test_random_messages_on_every_port_are_counted_and_harm_nothing(train):
    run = train("run.max_steps=40", "data.heldout=[]")
    run.until_step(2)
    rng = random.Random(0)
    with zmq.Context() as context:
        for offset in range(4):
            with context.socket(zmq.XSUB if offset == NOTICE else zmq.DEALER) as sender:
                sender.connect(f"tcp://127.0.0.1:{run.port + offset}")
                sender.setsockopt(zmq.LINGER, 20_000)
                for _ in range(NUM_MESSAGES):
                    frames = random_frames(rng)
                    if offset == NOTICE:  # without the b"x", some would be subscriptions
                        frames = [b"x" + frames[0]]
                    sender.send_multipart(frames)
    expected = dict.fromkeys(("control", "rollouts", "weights", "notice"), NUM_MESSAGES)
    run.until(lambda: num_rejected(run.scrape()) == expected, f"rejected {expected}", 30)
    run.succeeds()
    assert "Traceback" not in run.stdout + run.stderr
    found = audit(run.run_dir)
    assert found.num_violations == 0, found.violations


def test_bytes_that_are_not_zeromqs_harm_nothing(train):
    run = train("run.max_steps=60", "data.heldout=[]")
    run.until_step(2)
    rng = random.Random(0)
    for offset in range(5):
        for _ in range(40):
            with socket.create_connection(
                (run.address[6:].split(":")[0], run.port + offset)
            ) as raw:
                raw.sendall(rng.randbytes(rng.randint(1, 2000)))
    run.succeeds()
    assert "Traceback" not in run.stdout + run.stderr
