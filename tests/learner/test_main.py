"""`python -m learner` as a process: what it says of bad input, and how it ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from protocol.messages import Goodbye, Heartbeat, Hello, Welcome
from protocol.transport import Channel, PeerSockets
from protocol.wire import decode, encode

HOST = "127.0.0.1"
DEADLINE_SECONDS = 60.0
LEARNER = [sys.executable, "-m", "learner", "--config", "config.yaml"]


@pytest.fixture
def config(tmp_path, free_port):
    """A config that is right, to be changed and written."""
    return {
        "run": {"name": "test", "max_steps": 2},
        "model": {"path": "builtin:tiny"},
        "data": {"train": ["arithmetic:add2?count=8"], "heldout": ["arithmetic:add2?count=2"]},
        "rewards": [{"name": "exact_match"}],
        "generation": {"group_size": 2, "max_completion_tokens": 4},
        "network": {"port": free_port, "http_port": 0},
    }


@pytest.fixture
def start(tmp_path, config):
    started = []

    def begin(*arguments):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        process = subprocess.Popen(
            [*LEARNER, *arguments],
            cwd=tmp_path,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def last_line(process):
    """The process's last line, once it has ended: the only one that begins with `error: `."""
    _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    lines = errors.splitlines()
    found = [line for line in lines if line.startswith("error: ")]
    assert found == lines[-1:], errors
    assert "Traceback" not in errors, errors
    return found[0]


def test_a_good_config_passes_the_check_and_leaves_nothing_behind(start, tmp_path):
    process = start("--check")
    output, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert (process.returncode, output, errors) == (0, "", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml"]


def test_a_check_that_mlx_train_started_dies_with_it_before_it_reads(tmp_path):
    fifo, program = (
        tmp_path / "config.fifo",
        "import subprocess, sys; subprocess.call(sys.argv[1:])",
    )
    os.mkfifo(fifo)
    check = [sys.executable, "-m", "learner", "--check", "--config", str(fifo)]
    parent = subprocess.Popen(
        [sys.executable, "-c", program, *check], env={**os.environ, "MLX_RL_SUPERVISED": "1"}
    )
    with parent, fifo.open("w"):  # opens when the check does, which then waits for what is in it
        [child] = psutil.Process(parent.pid).children()
        parent.kill()
        child.wait(timeout=DEADLINE_SECONDS)


BAD = {
    "an unknown key": ({"learner": {"groups_per_stp": 2}}, "groups_per_stp"),
    "a wrong type": ({"run": {"max_steps": "many"}}, "run.max_steps"),
    "a missing data file": ({"data": {"train": ["nowhere.jsonl"]}}, "nowhere.jsonl"),
    "a bad data row": ({"data": {"train": ["bad.jsonl"]}}, "bad.jsonl:2"),
    "an unknown algorithm": ({"algorithm": {"name": "grop"}}, "unknown algorithm 'grop'"),
    "an unknown algorithm parameter": ({"algorithm": {"name": "grpo", "clip": 1}}, "clip"),
    "a bad algorithm parameter": ({"algorithm": {"name": "grpo", "clip_low": 2}}, "clip_low"),
    "an unknown evaluator": ({"evaluation": {"evaluators": [{"name": "acc"}]}}, "'acc'"),
    "a repeated evaluator": (
        {"evaluation": {"evaluators": [{"name": "accuracy"}, {"name": "accuracy"}]}},
        "accuracy twice",
    ),
    "a publish kind": ({"learner": {"publish": {"kind": "lora"}}}, "learner.publish.kind"),
    "no such model": ({"model": {"path": "./nowhere"}}, "./nowhere"),
    "no such built-in model": ({"model": {"path": "builtin:huge"}}, "builtin:tiny"),
}


@pytest.mark.parametrize(("changes", "named"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_one_line_that_names_it(start, config, tmp_path, changes, named):
    (tmp_path / "bad.jsonl").write_text('{"prompt": "1+1=", "answer": "2"}\n{"prompt": 3}\n')
    config.update(changes)
    process = start("--check")
    assert named in last_line(process)
    assert process.returncode == 2


def test_a_missing_config_file_is_named(start):
    process = start("--config", "nowhere.yaml", "--check")
    assert "nowhere.yaml" in last_line(process)
    assert process.returncode == 2


def test_a_taken_port_is_named_and_no_run_folder_is_made(start, config, tmp_path):
    port = config["network"]["port"] + Channel.WEIGHTS
    with socket.socket() as taken:
        taken.bind((HOST, port))
        taken.listen()
        process = start()
        assert f"port {port}" in last_line(process)
    assert process.returncode == 2
    assert not (tmp_path / "runs" / "test").exists()


def test_an_existing_run_folder_is_named(start, tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "metrics.jsonl").touch()
    process = start("--run-dir", "here")
    assert "run folder here exists" in last_line(process)
    assert process.returncode == 2
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["metrics.jsonl"]


def test_a_run_that_is_not_there_cannot_be_resumed(start):
    process = start("--resume")
    assert "no run folder runs/test to resume" in last_line(process)
    assert process.returncode == 2


def wait_for(sockets, message_type, hello) -> Any:
    """Says hello until a message of a type comes."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if hello is not None:
            sockets.send(Channel.CONTROL, encode(hello))
        for arrival in sockets.receive(0.2):
            if arrival.channel is Channel.NOTICE:  # one frame, header and body together
                continue
            message = decode(list(arrival.frames)).message
            if isinstance(message, message_type):
                return message
    raise AssertionError(f"no {message_type.__name__} came")


def test_a_waiting_learner_that_is_told_to_end_does_so_soon_with_the_reason(start, config):
    process = start()
    sockets = PeerSockets(f"tcp://{HOST}:{config['network']['port']}", "actor-1")
    try:
        hello = Hello(role="actor", peer="actor-1", host="h", pid=1)
        wait_for(sockets, Welcome, hello)
        beat = Heartbeat(peer="actor-1", state="idle", policy_version=-1, capacity=1)
        sockets.send(Channel.CONTROL, encode(beat))
        told_at = time.monotonic()
        process.send_signal(signal.SIGTERM)
        goodbye = wait_for(sockets, Goodbye, None)
        assert "told to end by SIGTERM" in goodbye.reason
        sockets.send(Channel.CONTROL, encode(Goodbye(reason="the run is over", peer="actor-1")))
        assert last_line(process) == "error: told to end by SIGTERM"
        assert time.monotonic() - told_at < 3.0
        assert process.returncode == 1
    finally:
        sockets.close()


def test_a_resume_before_any_checkpoint_begins_at_step_0_and_says_so(start, config, tmp_path):
    for attempt, arguments in enumerate(((), ("--resume",))):
        process = start(*arguments)
        sockets = PeerSockets(f"tcp://{HOST}:{config['network']['port']}", f"actor-{attempt}")
        try:
            hello = Hello(role="actor", peer=f"actor-{attempt}", host="h", pid=1)
            assert wait_for(sockets, Welcome, hello).run_epoch == attempt + 1
            goodbye = Goodbye(reason="done", peer=f"actor-{attempt}")
            sockets.send(Channel.CONTROL, encode(goodbye))
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=DEADLINE_SECONDS)
            assert ("resuming from step 0" in errors) == bool(arguments)
        finally:
            sockets.close()
    assert Path(tmp_path, "runs", "test", "run_epoch").read_text() == "2\n"
