import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from pathlib import Path

import pytest

from protocol.process import num_cores, this_host

DEADLINE_SECONDS = 20.0


def start(code, **options):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options,
    )  # fmt: skip


def run(code):
    """Exit code and the lines of standard error, once the process has ended."""
    process = start(code)
    _, stderr = process.communicate(timeout=DEADLINE_SECONDS)
    return process.returncode, stderr.splitlines()


@pytest.mark.parametrize(
    ("raised", "code", "last_line"),
    [
        ("ConfigError('no port')", 2, "error: no port"),
        ("SandboxUnavailable('no bwrap')", 2, "error: no bwrap"),
        ("DataError('a.jsonl:3: bad row')", 2, "error: a.jsonl:3: bad row"),
        ("UnknownPluginError('reward', 'x', ('y',))", 2, "error: unknown reward 'x': known are y"),
        ("RunStopped('no progress\\nfor 300 s')", 1, "error: no progress for 300 s"),
        ("WeightsError('digest')", 1, "error: digest"),
        ("KeyboardInterrupt()", 130, "error: interrupted"),
        ("ZeroDivisionError('by us')", 1, "error: ZeroDivisionError: by us"),
    ],
)
def test_a_failure_ends_in_its_exit_code_and_one_last_line(raised, code, last_line):
    found, lines = run(f"""
        from protocol.errors import *
        from protocol.process import run_main
        def main(): raise {raised}
        run_main(main)
    """)
    assert (found, lines[-1]) == (code, last_line)
    traceback_shown = any("Traceback" in line for line in lines)
    assert traceback_shown == ("ZeroDivision" in raised)  # only our own bugs have one


@pytest.mark.parametrize("code", [0, 3])
def test_a_command_that_returns_ends_in_the_code_it_returned(code):
    found = run(f"from protocol.process import run_main\nrun_main(lambda: {code})")
    assert found == (code, [])


FAMILY = """
    import os, subprocess, sys, time
    child = '''
    import os
    {preparation}
    os.write(1, b"ready\\\\n")
    os.read(0, 1)    # of a pipe that it holds open itself and nobody writes to
    '''.replace("\\n    ", "\\n")
    reading, writing = os.pipe()
    command = [sys.executable, "-c", child]
    process = subprocess.Popen(command, stdin=reading, pass_fds=[writing])
    process.wait()
"""


def orphan(preparation):
    """Kill the parent of a child that is ready; whether the child ended, told by its stdout."""
    parent = start(FAMILY.format(preparation=preparation))
    assert parent.stdout is not None
    assert parent.stderr is not None
    assert parent.stdout.readline() == "ready\n"
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    (child,) = map(int, children)
    parent.kill()
    parent.wait(DEADLINE_SECONDS)
    ended = threading.Event()  # the pipe closes with its last writer, the child

    def read_to_the_end(pipe):
        pipe.read()
        ended.set()

    reader = threading.Thread(target=read_to_the_end, args=(parent.stdout,))
    reader.start()
    child_ended = ended.wait(3.0)
    if not child_ended:
        os.kill(child, signal.SIGKILL)
    reader.join(DEADLINE_SECONDS)
    parent.stdout.close()
    parent.stderr.close()
    return child_ended


@pytest.mark.skipif(sys.platform != "linux", reason="finds the child in /proc")
def test_a_child_dies_when_its_parent_is_killed():
    assert orphan("from protocol.process import die_with_parent; die_with_parent()")


@pytest.mark.skipif(sys.platform != "linux", reason="finds the child in /proc")
def test_without_that_the_same_child_outlives_its_parent():
    assert not orphan("pass")


def test_a_private_tmpdir_is_used_by_everything_and_removed():
    code, lines = run("""
        import os, sys, tempfile
        from protocol.process import private_tmpdir
        before = tempfile.gettempdir(), os.environ.get("TMPDIR")
        with private_tmpdir():
            folder = os.environ["TMPDIR"]
            assert tempfile.gettempdir() == folder
            assert os.stat(folder).st_mode & 0o077 == 0
            handle, name = tempfile.mkstemp()
            assert os.path.dirname(name) == folder
        assert not os.path.exists(folder)
        assert (tempfile.gettempdir(), os.environ.get("TMPDIR")) == before
        print(folder, file=sys.stderr)
    """)
    assert code == 0, lines
    assert Path(lines[-1]).parent == Path(tempfile.gettempdir())


def test_a_private_tmpdir_is_removed_when_the_command_fails():
    code, lines = run("""
        import os, sys
        from protocol.errors import RunStopped
        from protocol.process import private_tmpdir, run_main
        def main():
            with private_tmpdir():
                print(os.environ["TMPDIR"], file=sys.stderr)
                raise RunStopped("no progress")
        run_main(main)
    """)
    assert (code, lines[1:]) == (1, ["error: no progress"])
    assert not Path(lines[0]).exists()


def test_a_hard_exit_ends_a_process_whose_threads_hang():
    code, lines = run("""
        import threading
        from protocol.process import arm_hard_exit
        arm_hard_exit(0.2, 7)
        threading.Thread(target=threading.Event().wait).start()   # not a daemon
        threading.Event().wait()
    """)
    assert (code, lines) == (7, [])


def test_an_armed_hard_exit_does_not_delay_a_process_that_ends_by_itself():
    code, _ = run("from protocol.process import arm_hard_exit\narm_hard_exit(3600.0, 7)")
    assert code == 0


def test_this_host_has_a_name():
    assert this_host()


HANGING = """
    import asyncio, ctypes, os, signal, sys, threading
    from protocol.process import end_within, private_tmpdir

    def hang():    # one call of C: no bytecode, no interpreter lock, no end
        libc = ctypes.CDLL(None)
        mutex, condition = ctypes.create_string_buffer(256), ctypes.create_string_buffer(256)
        libc.pthread_mutex_init(mutex, None)
        libc.pthread_cond_init(condition, None)
        libc.pthread_mutex_lock(mutex)

        def tell():
            libc.pthread_mutex_lock(mutex)    # to be had once the main thread waits, and kept
            print("ready", os.environ.get("TMPDIR", ""), flush=True)

        threading.Thread(target=tell, daemon=True).start()
        libc.pthread_cond_wait(condition, mutex)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(9))
"""


def hanging(body):
    """A process in the midst of a call that never returns, and the TMPDIR that it told."""
    process = start(textwrap.dedent(HANGING) + textwrap.dedent(body))
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("ready"), process.communicate()[1]
    return process, line.removeprefix("ready").strip()


def end_of(process):
    _, stderr = process.communicate(timeout=DEADLINE_SECONDS)
    return process.returncode, stderr.splitlines()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_a_call_that_never_returns_ends_the_process_in_time(number):
    process, folder = hanging("""
        end_within(0.3)
        with private_tmpdir():
            hang()
    """)
    process.send_signal(number)
    name = signal.Signals(number).name
    wanted = f"error: told to end by {name}, and did not within 0.3 s"
    assert end_of(process) == (128 + number, [wanted])
    assert folder
    assert not Path(folder).exists()


def test_without_that_the_same_process_lives_on():
    process, _ = hanging("hang()")
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.0)
    process.kill()
    process.communicate()


@pytest.mark.parametrize("numbers", ["SIGINT SIGINT", "SIGTERM SIGTERM", "SIGTERM SIGINT"])
def test_a_second_signal_ends_it_at_once(numbers):
    first, second = (signal.Signals[name] for name in numbers.split())
    process, _ = hanging("end_within(3600.0)\nhang()")
    process.send_signal(first)
    wait_until_taken(process)
    process.send_signal(second)
    wanted = f"error: killed by a second signal, {second.name}"
    assert end_of(process) == (128 + second, [wanted])


def wait_until_taken(process):
    """Two signals of one kind that are both pending are one to the kernel."""
    status = Path(f"/proc/{process.pid}/status")
    while sys.platform == "linux" and "ShdPnd:\t" + "0" * 16 not in status.read_text():
        os.sched_yield()


def test_a_signal_whose_handler_can_run_ends_it_as_the_handler_says():
    process, _ = hanging("""
        end_within(3600.0)
        print("ready", flush=True)
        threading.Event().wait()
    """)
    process.send_signal(signal.SIGTERM)
    assert end_of(process) == (9, [])


def test_other_signals_do_not_count_and_an_event_loop_in_a_thread_goes_on():
    process, _ = hanging("""
        end_within(0.3)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGUSR1)

        async def child():
            return await (await asyncio.create_subprocess_exec("sleep", "0.5")).wait()

        def loop():
            assert asyncio.run(child()) == 0
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=loop).start()
        hang()
    """)
    assert end_of(process)[0] == 128 + signal.SIGTERM


def test_an_end_is_not_delayed_by_an_output_that_nobody_reads():
    process, _ = hanging("""
        end_within(0.3)
        os.set_blocking(2, False)
        try:
            while True: os.write(2, b"x" * 512)
        except BlockingIOError:
            os.set_blocking(2, True)
        hang()
    """)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_SECONDS) == 128 + signal.SIGTERM
    process.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="macOS pins no process to a core")
def test_cores_that_a_process_may_not_run_on_are_not_counted():
    print_cores = "from protocol.process import num_cores; print(num_cores())"
    allowed = os.sched_getaffinity(0)
    assert num_cores() == len(allowed)
    found = subprocess.run(
        [sys.executable, "-c", print_cores],
        preexec_fn=lambda: os.sched_setaffinity(0, {min(allowed)}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "1\n"
