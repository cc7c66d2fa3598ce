"""RestartPolicy by numbers; `supervised` with real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from protocol.supervise import SUPERVISED, RestartPolicy, describe_exit, exit_status, supervised

ROLE = """
import os, signal, sys, time
from pathlib import Path
from protocol.supervise import supervised

def run() -> int:
    with open("lives", "a") as lives:
        lives.write(f"{os.getpid()} {' '.join(sys.argv[1:])}\\n")
    num_lives = len(Path("lives").read_text().splitlines())
    BODY
    return 0

sys.exit(supervised(run, "role"))
"""
CRASH_ONCE = "if num_lives == 1: os.kill(os.getpid(), signal.SIGKILL)"
WAIT_FOR_TERM = """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    Path("ready").touch()
    time.sleep(60)
"""
STOPPED = """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    Path("ready").touch()
    os.kill(os.getpid(), signal.SIGSTOP)  # nothing but SIGKILL ends it
"""
HANGING = """
    import ctypes
    from protocol.process import STOP_SECONDS, STOP_SIGNALS, end_within
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: None)
    end_within(STOP_SECONDS)
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(256)
    libc.pthread_mutex_init(mutex, None)
    libc.pthread_mutex_lock(mutex)
    Path(f"ready{os.environ.get('HONCHO_PROCESS_NAME', '')}").touch()
    libc.pthread_mutex_lock(mutex)  # one call that never returns
"""


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `python -m role` with a body; whatever is left is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(body: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        (tmp_path / "role.py").write_text(ROLE.replace("BODY", body))
        unset = (SUPERVISED, "HONCHO_PROCESS_NAME")
        inherited = {name: value for name, value in os.environ.items() if name not in unset}
        process = subprocess.Popen(
            [sys.executable, "-m", "role", *arguments],
            cwd=tmp_path,
            env=inherited | environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def lives(folder: Path) -> list[str]:
    return (folder / "lives").read_text().splitlines()


def test_waits_double_up_to_the_longest():
    policy = RestartPolicy()
    waits = [policy.decide(1, 0.0, 15.0).restart_seconds for _ in range(9)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_a_minute_of_life_brings_the_first_wait_back():
    policy = RestartPolicy()
    for _ in range(3):
        policy.decide(1, 0.0, 1.0)
    assert policy.decide(1, 100.0, 160.0).restart_seconds == 0.5
    assert policy.decide(1, 200.0, 201.0).restart_seconds == 1.0


def test_a_crash_loop_is_given_up_and_says_so():
    policy = RestartPolicy()
    decisions = [policy.decide(-9, 0.0, 9.9) for _ in range(8)]
    assert all(decision.restart_seconds is not None for decision in decisions[:7])
    assert decisions[7].restart_seconds is None
    assert decisions[7].sentence == (
        "was killed by SIGKILL; given up after 8 crashes in a row, none after more than 10 s"
    )


def test_one_longer_life_ends_a_crash_loop():
    policy = RestartPolicy()
    for _ in range(7):
        policy.decide(1, 0.0, 1.0)
    assert policy.decide(1, 0.0, 11.0).restart_seconds is not None
    assert policy.decide(1, 0.0, 1.0).restart_seconds is not None


@pytest.mark.parametrize("code", [0, 2])
def test_done_and_bad_input_are_never_restarted(code: int):
    assert RestartPolicy().decide(code, 0.0, 100.0) == (None, f"ended with code {code}")


def test_exits_are_told_by_name():
    assert describe_exit(3) == "ended with code 3"
    assert describe_exit(-15) == "was killed by SIGTERM"
    assert exit_status(3) == 3
    assert exit_status(-9) == 137


def test_a_supervised_process_runs_the_role_itself(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(SUPERVISED, "1")
    monkeypatch.setattr("protocol.supervise.die_with_parent", lambda: None)
    assert supervised(lambda: 5, "no_such_module") == 5


def test_a_killed_role_is_started_again_with_its_arguments(start: Start, tmp_path: Path):
    process = start(CRASH_ONCE, "--learner", "tcp://x:1")
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert [line.split(" ", 1)[1] for line in lives(tmp_path)] == ["--learner tcp://x:1"] * 2
    assert "role was killed by SIGKILL; starting it again in 0.5 s" in output


def test_bad_input_is_not_tried_twice(start: Start, tmp_path: Path):
    assert start("return 2").wait(timeout=30) == 2
    assert len(lives(tmp_path)) == 1


def test_sigterm_reaches_the_role_and_its_code_comes_back(start: Start, tmp_path: Path):
    process = start(WAIT_FOR_TERM)
    wait_until((tmp_path / "ready").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 7
    assert len(lives(tmp_path)) == 1


def test_a_signal_in_the_wait_before_a_restart_ends_the_supervisor(start: Start, tmp_path: Path):
    process = start("return 1")
    assert process.stdout is not None
    assert "starting it again" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 128 + signal.SIGTERM


def test_the_role_dies_with_its_killed_supervisor(start: Start, tmp_path: Path):
    process = start(WAIT_FOR_TERM)
    wait_until((tmp_path / "ready").exists)
    role = int(lives(tmp_path)[0].split()[0])
    assert role != process.pid
    process.kill()
    wait_until(lambda: is_gone(role))


def test_honcho_takes_the_learners_code_though_a_peer_leaves_first(start: Start, tmp_path: Path):
    start("Path('left').touch()").wait(timeout=30)  # writes role.py
    (tmp_path / "left").unlink()
    (tmp_path / "Procfile").write_text(
        "learner: exec sh -c 'while [ ! -e left ]; do sleep 0.02; done; exit 3'\n"
        f"actor: exec {sys.executable} -m role\n"
    )
    command = [sys.executable, "-m", "honcho", "start"]
    honcho = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert honcho.returncode == 3, honcho.stdout


@pytest.mark.parametrize(
    ("body", "code"), [(STOPPED, 137), (HANGING, 143)], ids=["stopped", "hanging"]
)
def test_a_role_that_hangs_is_gone_4_seconds_after_a_signal(
    start: Start, tmp_path: Path, body: str, code: int
):
    process = start(body)
    wait_until((tmp_path / "ready").exists)
    told_at = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == code
    assert time.monotonic() - told_at < 4.5
    assert is_gone(int(lives(tmp_path)[0].split()[0]))


@pytest.mark.parametrize("body", [STOPPED, HANGING], ids=["stopped", "hanging"])
def test_a_second_signal_ends_a_role_that_hangs_at_once(start: Start, tmp_path: Path, body: str):
    process = start(body)
    wait_until((tmp_path / "ready").exists)
    told_at = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) in (130, 137, 143)
    assert time.monotonic() - told_at < 1.5
    assert is_gone(int(lives(tmp_path)[0].split()[0]))


@pytest.mark.slow
def test_a_ctrl_c_at_honcho_leaves_nothing_of_roles_that_hang(start: Start, tmp_path: Path):
    start("return 0").wait(timeout=30)
    (tmp_path / "role.py").write_text(ROLE.replace("BODY", HANGING))
    (tmp_path / "Procfile").write_text(
        f"learner: MLX_RL_SUPERVISED=1 exec {sys.executable} -m role\n"
        f"actor: exec {sys.executable} -m role\n"
    )
    honcho = subprocess.Popen(
        [sys.executable, "-m", "honcho", "start"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    for name in ("learner.1", "actor.1"):
        wait_until((tmp_path / f"ready{name}").exists)
    descendants = psutil.Process(honcho.pid).children(recursive=True)
    told_at = time.monotonic()
    os.killpg(honcho.pid, signal.SIGINT)  # as a terminal does it
    assert honcho.wait(timeout=30) == 130
    assert time.monotonic() - told_at < 5.0
    assert len(descendants) >= 5  # two wrappers, two roles, one of them with a supervisor
    wait_until(lambda: all(is_gone(process.pid) for process in descendants), 0.5)
