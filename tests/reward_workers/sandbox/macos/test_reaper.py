"""The supervisor dies by SIGKILL: its registered workers die too, and nobody else does."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from reward_workers.sandbox.macos.reaper import Reaper, born_at

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
SUPERVISOR = textwrap.dedent("""
    import sys, time
    from reward_workers.sandbox.macos.reaper import Reaper
    reaper = Reaper()
    reaper.start()
    for pid in sys.argv[1:]:
        reaper.register(int(pid))
    reaper.unregister(int(sys.argv[-1]))
    print("registered", flush=True)
    time.sleep(600)
""")


@pytest.fixture
def start_sleeper():
    started = []

    def start(**options):
        process = subprocess.Popen(SLEEPER, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def reaper():
    made = Reaper()
    made.start()
    yield made
    made.close()


def test_the_registered_die_with_their_supervisor_and_the_others_live(start_sleeper):
    first, second, stranger, released = (start_sleeper(start_new_session=n > 0) for n in range(4))
    pids = [str(each.pid) for each in (first, second, released)]
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, *pids], stdout=subprocess.PIPE, text=True
    )
    with supervisor:
        assert supervisor.stdout is not None
        assert supervisor.stdout.readline() == "registered\n"
        supervisor.kill()
        assert first.wait(timeout=2) == -signal.SIGKILL
        assert second.wait(timeout=2) == -signal.SIGKILL
    assert stranger.poll() is None
    assert released.poll() is None


def test_closing_it_kills_who_is_still_registered(reaper, start_sleeper):
    worker = start_sleeper()
    reaper.register(worker.pid)
    reaper.close()
    assert worker.wait(timeout=2) == -signal.SIGKILL


def test_a_pid_that_was_given_to_another_process_is_left_alone(reaper, start_sleeper):
    other = start_sleeper()
    born = born_at(other.pid)
    assert born is not None
    reaper._born[other.pid] = born - 1  # who had the pid before started earlier
    reaper.start()
    reaper.close()
    assert other.poll() is None


def test_a_process_that_has_gone_is_not_registered(reaper, start_sleeper):
    worker = start_sleeper()
    worker.kill()
    worker.wait()
    assert born_at(worker.pid) is None
    reaper.register(worker.pid)
    reaper.unregister(worker.pid)


def test_a_reaper_that_was_killed_is_replaced_and_knows_the_old_workers(reaper, start_sleeper):
    before, after = start_sleeper(), start_sleeper()
    reaper.register(before.pid)
    os.kill(reaper._process.pid, signal.SIGKILL)
    reaper._process.wait()
    reaper.register(after.pid)
    reaper.close()
    assert before.wait(timeout=2) == -signal.SIGKILL
    assert after.wait(timeout=2) == -signal.SIGKILL


def test_a_terminals_interrupt_does_not_end_it(reaper, start_sleeper):
    worker = start_sleeper()
    reaper.register(worker.pid)
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(reaper._process.pid, each)
    reaper.close()
    assert worker.wait(timeout=2) == -signal.SIGKILL
