"""One worker as a direct child process: its pipes, its end, and a kill that never hits another.

A pid belongs to its process until it is waited for. So the end is noticed without that, and both
the wait and every signal happen under one lock: no signal is sent after it.
"""

import asyncio
import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reward_workers.sandbox.backend import Ended, Spawned

MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024
"""Unit of ru_maxrss: bytes on macOS, kilobytes on Linux."""


@dataclass(eq=False)
class _Child:
    process: subprocess.Popen[bytes]
    reaped: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def kill(self) -> None:
        """SIGKILL to the process and its group, unless it was waited for."""
        with self.lock:
            if not self.reaped:
                for send in (os.killpg, os.kill):  # its group is its own: it leads a session
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        send(self.process.pid, signal.SIGKILL)

    def wait(self) -> Ended:
        """Block until it has ended, and free its pid."""
        wait_without_reaping(self.process.pid)
        with self.lock:
            _, status, usage = os.wait4(self.process.pid, 0)
            self.reaped = True
            code = os.waitstatus_to_exitcode(status)
            self.process.returncode = code  # so that subprocess does not wait for it as well
        return Ended(
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            peak_bytes=usage.ru_maxrss * MAXRSS_BYTES,
        )


def start_child(
    command: Callable[[int], Sequence[str]],
    environment: Mapping[str, str],
    folder: Path,
    on_end: Callable[[], None],
) -> Spawned:
    """Start a process with a channel and pipes; to be called on the event loop.

    Args:
        command: arguments of the process, given the fd of its end of the channel.
        environment: all of its environment.
        folder: where it starts.
        on_end: called by another thread once the process has gone, before `ended` is done.
    """
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    try:
        process = subprocess.Popen(  # noqa: S603 - our own command
            command(theirs.fileno()),
            stdin=subprocess.DEVNULL,
            stdout=out_end,
            stderr=err_end,
            pass_fds=(theirs.fileno(),),
            env=dict(environment),
            cwd=folder,
            umask=0o077,
            start_new_session=True,
        )
    except BaseException:
        ours.close()
        os.close(out)
        os.close(err)
        raise
    finally:
        theirs.close()
        os.close(out_end)
        os.close(err_end)
    ours.setblocking(False)
    os.set_blocking(out, False)
    os.set_blocking(err, False)
    child, ended = _Child(process), loop.create_future()
    arguments = (child, on_end, loop, ended)
    threading.Thread(target=_watch, args=arguments, name="sandbox-wait", daemon=True).start()
    return Spawned(process.pid, ours, out, err, child.kill, ended)


def close_fds(spawned: Spawned) -> None:
    """Close the supervisor's ends of a worker that nobody will use."""
    spawned.channel.close()
    os.close(spawned.stdout)
    os.close(spawned.stderr)


def wait_without_reaping(pid: int) -> None:
    """Block until a child has ended, and leave it to be waited for.

    macOS has os.waitid from Python 3.13 on; before, kqueue tells the same (not exercised on a Mac
    yet), and refuses with ESRCH a process that has ended already.
    """
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    elif sys.platform == "darwin":
        with contextlib.closing(select.kqueue()) as queue, contextlib.suppress(ProcessLookupError):
            wanted = select.kevent(
                pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT
            )
            queue.control([wanted], 1, None)


def _watch(
    child: _Child,
    on_end: Callable[[], None],
    loop: asyncio.AbstractEventLoop,
    ended: asyncio.Future[Ended],
) -> None:
    how = child.wait()
    on_end()

    def tell() -> None:
        if not ended.done():
            ended.set_result(how)

    with contextlib.suppress(RuntimeError):  # the loop has closed, and nobody asks any more
        loop.call_soon_threadsafe(tell)
