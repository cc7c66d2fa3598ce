"""The launcher with real processes: small shell scripts in a Procfile of their own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from learner.launch.launcher import Launcher
from learner.launch.plain_display import PlainDisplay
from learner.launch.progress import RunProgress
from protocol.errors import ConfigError

DRIVER = """
import functools, multiprocessing, os, sys
from pathlib import Path
from learner.launch.launcher import Launcher
from learner.launch.plain_display import PlainDisplay
from learner.launch.progress import RunProgress
from protocol.process import fail
from protocol.supervise import RestartPolicy

if __name__ == "__main__":  # spawn imports this file again
    display = PlainDisplay(RunProgress(Path("run"), 1))
    policy = functools.partial(RestartPolicy, first_seconds=0.05, max_crashes=3)
    launcher = Launcher(display, multiprocessing.get_context(sys.argv[1]), policy)
    concurrency = {"actor": int(sys.argv[2]), "learner": 1}
    launcher.add_roles(Path("Procfile").read_text(), concurrency, dict(os.environ))
    launcher.loop()
    code = launcher.returncode
    sys.exit(fail(launcher.reason, code) if code else 0)
"""
FOREVER = "while :; do sleep 0.02; done"
UNTIL = "while [ ! -e {} ]; do sleep 0.02; done"
HANGING = f"""exec {sys.executable} -c '
import ctypes, pathlib, signal, sys
from protocol.process import STOP_SECONDS, STOP_SIGNALS, end_within
for number in STOP_SIGNALS:
    signal.signal(number, lambda *_: None)
end_within(STOP_SECONDS)
libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(256)
libc.pthread_mutex_init(mutex, None)
libc.pthread_mutex_lock(mutex)
pathlib.Path(sys.argv[1]).touch()
libc.pthread_mutex_lock(mutex)  # one call that never returns
' $0.ready"""
STUBBORN = f'trap "" TERM; echo $$ > actor.pid; touch ready; {FOREVER}'

Launch = Callable[..., subprocess.Popen[str]]


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


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Starts a launcher on two shell scripts; whatever is left is killed."""
    started: list[subprocess.Popen[str]] = []

    def launch(learner: str, actor: str, method: str = "fork", num_actors: int = 1):
        (tmp_path / "driver.py").write_text(DRIVER)
        (tmp_path / "learner.sh").write_text(learner)
        (tmp_path / "actor.sh").write_text(actor)
        roles = ("learner: exec sh learner.sh", "actor: exec sh actor.sh")
        (tmp_path / "Procfile").write_text("\n".join(roles))
        process = subprocess.Popen(
            [sys.executable, "driver.py", method, str(num_actors)],
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield launch
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=30)
    return process.returncode, output


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_clean_end_is_left_to_the_peers(launch: Launch, method: str):
    learner = f"{UNTIL.format('ready')}; touch goodbye"
    actor = f'trap "echo hurried" TERM; touch ready; {UNTIL.format("goodbye")}; echo left'
    code, output = finish(launch(learner, actor, method))
    assert code == 0, output
    assert "left" in output
    assert "hurried" not in output
    assert "error" not in output


def test_the_learners_failure_ends_all_with_its_code_and_reason(launch: Launch):
    learner = f"{UNTIL.format('ready')}; echo starting; echo 'error: no disk' >&2; exit 3"
    code, output = finish(launch(learner, f"touch ready; {FOREVER}"))
    assert code == 3
    assert output.splitlines()[-1] == "error: the learner ended with code 3: no disk"


def test_a_role_is_told_to_end_and_the_compiler_that_it_runs_is_not(launch: Launch):
    learner = f"{UNTIL.format('ready')}; exit 3"
    child = f'(trap "echo child told" TERM; touch ready; {FOREVER})'
    actor = f"trap 'echo role told; sleep 0.3; kill -9 $!; exit' TERM; {child} & wait"
    _, output = finish(launch(learner, actor))
    assert "role told" in output
    assert "child told" not in output


def test_a_killed_learner_is_named_with_its_signal(launch: Launch):
    code, output = finish(launch("kill -9 $$", FOREVER))
    assert code == 128 + signal.SIGKILL
    assert output.splitlines()[-1] == "error: the learner was killed by SIGKILL"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_killed_actor_is_started_again(launch: Launch, method: str):
    actor = "if [ ! -e once ]; then touch once; kill -9 $$; fi; touch again"
    code, output = finish(launch(UNTIL.format("again"), actor, method))
    assert code == 0, output
    assert "actor.1 was killed by SIGKILL; starting it again in 0.05 s" in output


@pytest.mark.slow
def test_an_actor_that_left_in_mid_run_is_started_again(launch: Launch):
    actor = f"echo once >> lives; [ $(wc -l < lives) -gt 1 ] && touch again && {FOREVER}; exit 0"
    code, output = finish(launch(UNTIL.format("again"), actor))
    assert code == 0, output
    assert "actor.1 ended with code 0" in output


def test_a_dead_actor_is_noticed_though_its_child_holds_the_output(launch: Launch, tmp_path: Path):
    first = "sleep 3000 & echo $! > child.pid; exit 1"
    actor = f"[ -e child.pid ] && touch again && {FOREVER}; {first}"
    code, output = finish(launch(UNTIL.format("again"), actor))
    assert code == 0, output
    wait_until(lambda: is_gone(int((tmp_path / "child.pid").read_text())))


def test_a_third_signal_ends_a_launcher_whose_loop_is_stuck(tmp_path: Path, monkeypatch):
    display = PlainDisplay(RunProgress(tmp_path, 1))
    launcher = Launcher(display)
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    for _ in range(2):
        launcher._on_signal(signal.SIGINT, None)  # pyright: ignore[reportPrivateUsage]
    assert ended == []
    launcher._on_signal(signal.SIGINT, None)  # pyright: ignore[reportPrivateUsage]
    assert ended == [130]


def test_bad_input_of_an_actor_ends_the_run_with_code_2(launch: Launch):
    code, output = finish(launch(FOREVER, "echo 'error: no such reward' >&2; exit 2"))
    assert code == 2
    assert output.splitlines()[-1] == "error: actor.1 ended with code 2: no such reward"


def test_a_crash_loop_ends_the_run_and_says_why(launch: Launch):
    code, output = finish(launch(FOREVER, "echo 'error: out of memory' >&2; exit 1"))
    assert code == 1
    assert output.splitlines()[-1] == (
        "error: actor.1 ended with code 1; given up after 3 crashes in a row, "
        "none after more than 10 s: out of memory"
    )


def test_a_stubborn_actor_is_gone_5_seconds_after_the_learner(launch: Launch, tmp_path: Path):
    process = launch(f"{UNTIL.format('ready')}; touch ended", STUBBORN)
    wait_until((tmp_path / "ended").exists)
    ended_at = time.monotonic()
    assert finish(process)[0] == 0
    assert time.monotonic() - ended_at < 5.5  # with the driver's own end
    assert is_gone(int((tmp_path / "actor.pid").read_text()))


@pytest.mark.parametrize(
    ("number", "wanted_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["INT", "TERM"]
)
def test_a_signal_is_forwarded_once_as_sigterm(
    launch: Launch, tmp_path: Path, number: signal.Signals, wanted_code: int
):
    wait = f'trap "echo told >> told; exit 0" TERM; touch $0.ready; {FOREVER}'
    process = launch(wait, wait)
    wait_until(lambda: (tmp_path / "learner.sh.ready").exists())
    wait_until(lambda: (tmp_path / "actor.sh.ready").exists())
    process.send_signal(number)
    code, output = finish(process)
    assert code == wanted_code
    assert output.splitlines()[-1] == f"error: interrupted by {number.name}"
    assert (tmp_path / "told").read_text() == "told\n" * 2


def test_a_second_ctrl_c_kills_at_once(launch: Launch, tmp_path: Path):
    process = launch(FOREVER, STUBBORN)
    wait_until((tmp_path / "ready").exists)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    while "SIGINT received" not in process.stdout.readline():
        pass
    asked_at = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 130
    assert time.monotonic() - asked_at < 2.0
    assert is_gone(int((tmp_path / "actor.pid").read_text()))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize(("times", "seconds"), [(1, 5.0), (2, 2.0)], ids=["once", "twice"])
def test_a_terminals_ctrl_c_ends_roles_that_hang(
    launch: Launch, tmp_path: Path, method: str, times: int, seconds: float
):
    process = launch(HANGING, HANGING, method)
    for role in ("learner", "actor"):
        wait_until((tmp_path / f"{role}.sh.ready").exists)
    descendants = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    assert process.stdout is not None
    told_at = time.monotonic()
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)  # mlx-train and its wrappers
        while times > 1 and "SIGINT received" not in process.stdout.readline():
            pass
    assert finish(process)[0] == 130
    assert time.monotonic() - told_at < seconds
    wait_until(lambda: all(is_gone(pid) for pid in descendants), 0.5)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere roles themselves watch their parent")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_kill_9_of_the_launcher_leaves_nothing(launch: Launch, tmp_path: Path, method: str):
    process = launch(FOREVER, STUBBORN, method)
    wait_until((tmp_path / "ready").exists)
    descendants = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
    assert len(descendants) >= 4  # two wrappers, two roles
    process.kill()
    wait_until(lambda: all(is_gone(pid) for pid in descendants))


def test_an_actor_whose_wrapper_was_killed_is_started_again(launch: Launch, tmp_path: Path):
    actor = f"if [ -e ready ]; then touch again; fi; echo $$ > actor.pid; touch ready; {FOREVER}"
    process = launch(UNTIL.format("again"), actor)
    wait_until((tmp_path / "ready").exists)
    role = psutil.Process(int((tmp_path / "actor.pid").read_text()))
    os.kill(role.ppid(), signal.SIGKILL)
    code, output = finish(process)
    assert code == 0, output
    assert "actor.1 was killed by SIGKILL; starting it again" in output


def test_concurrency_counts_each_role(launch: Launch):
    learner = f"{UNTIL.format('actor.3')}; {UNTIL.format('actor.1')}; {UNTIL.format('actor.2')}"
    code, output = finish(launch(learner, "touch $HONCHO_PROCESS_NAME", num_actors=3))
    assert code == 0, output
    assert "actor.4" not in output


def test_a_procfile_without_a_learner_is_refused(tmp_path: Path):
    launcher = Launcher(PlainDisplay(RunProgress(tmp_path, 1)))
    with pytest.raises(ConfigError, match=r"no line `learner: \.\.\.`, only web"):
        launcher.add_roles("web: exec true\n", {}, {})


def test_a_line_too_long_for_a_pipe_is_cut(launch: Launch):
    learner = "head -c 100000 /dev/zero | tr '\\0' x; echo; echo after"
    code, output = finish(launch(learner, "exit 0"))
    assert code == 0, output
    assert "x" * 3000 + " ..." in output
    assert "x" * 3001 not in output
    assert "after" in output
