"""A worker as a direct child: its pipes, its end, and signals that never hit another."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable

import pytest

from reward_workers.sandbox.macos import child
from reward_workers.sandbox.macos.child import close_fds, start_child


def nothing() -> None:
    pass


@pytest.fixture
def start(tmp_path):
    started = []

    def start_program(program: str, *, on_end: Callable[[], None] = nothing, environment=None):
        spawned = start_child(
            lambda channel: [sys.executable, "-c", program, str(channel)],
            environment or {},
            tmp_path,
            on_end,
        )
        started.append(spawned)
        return spawned

    yield start_program
    for spawned in started:
        spawned.kill()
        close_fds(spawned)


async def until_end(fd: int) -> bytes:
    """All that an ended process wrote."""
    return await asyncio.to_thread(lambda: os.read(fd, 1 << 16))


async def test_an_exit_code_is_told_with_what_was_used(start):
    ended = await start("sum(range(3_000_000)); raise SystemExit(7)").ended
    assert (ended.exit_code, ended.signal) == (7, None)
    assert 0.005 < ended.cpu_seconds < 5
    assert 1 << 20 < ended.peak_bytes < 1 << 30


async def test_a_signal_is_told(start):
    ended = await start("import os; os.abort()").ended
    assert (ended.exit_code, ended.signal) == (None, signal.SIGABRT)


async def test_channel_and_pipes_reach_the_process(start):
    program = (
        "import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); s.sendall(s.recv(5)); "
        "print('out', end=''); print('err', end='', file=sys.stderr)"
    )
    spawned, loop = start(program), asyncio.get_running_loop()
    await loop.sock_sendall(spawned.channel, b"hello")
    assert await loop.sock_recv(spawned.channel, 5) == b"hello"
    await spawned.ended
    assert await until_end(spawned.stdout) == b"out"
    assert await until_end(spawned.stderr) == b"err"


async def test_the_process_gets_no_other_descriptor_and_no_other_environment(start, monkeypatch):
    monkeypatch.setenv("SECRET", "1")
    secret = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(secret, True)
    program = (
        "import os, sys\n"
        "def is_open(fd):\n"
        "    try: os.fstat(fd)\n"
        "    except OSError: return False\n"
        "    return True\n"
        "held = [fd for fd in range(3, 256) if is_open(fd)]\n"
        "print(held == [int(sys.argv[1])], sorted(os.environ), os.getsid(0) == os.getpid())"
    )
    spawned = start(program, environment={"LC_CTYPE": "C.UTF-8", "ONLY": "this"})
    await spawned.ended
    os.close(secret)
    assert await until_end(spawned.stdout) == b"True ['LC_CTYPE', 'ONLY'] True\n"


async def test_a_kill_ends_it_and_its_group_and_may_be_repeated(start):
    program = (
        "import os, time\n"
        "if os.fork() == 0: os.write(1, str(os.getpid()).encode())\n"
        "time.sleep(600)"
    )
    spawned = start(program)
    os.set_blocking(spawned.stdout, True)
    await until_end(spawned.stdout)
    spawned.kill()
    spawned.kill()
    assert (await spawned.ended).signal == signal.SIGKILL
    assert await until_end(spawned.stdout) == b""  # its child held the pipe, and has gone too


async def test_once_it_was_waited_for_nothing_is_sent(start, monkeypatch):
    spawned = start("pass")
    await spawned.ended
    sent = []
    monkeypatch.setattr(child.os, "kill", lambda *arguments: sent.append(arguments))
    monkeypatch.setattr(child.os, "killpg", lambda *arguments: sent.append(arguments))
    spawned.kill()
    assert sent == []


async def test_its_end_is_handled_before_it_is_told(start):
    handled = []
    await start("pass", on_end=lambda: handled.append(True)).ended
    assert handled == [True]


async def test_a_command_that_cannot_be_run_leaves_no_descriptor(tmp_path):
    before = len(os.listdir("/dev/fd"))
    with pytest.raises(FileNotFoundError):
        start_child(lambda _: [str(tmp_path / "missing")], {}, tmp_path, nothing)
    assert len(os.listdir("/dev/fd")) == before
