"""A small process that ends the workers when their supervisor dies, by whatever signal.

macOS has no "die with your parent", and neither has Linux for a worker that is no direct child. The
reaper holds the read end of a pipe whose write end only the supervisor holds; the end of that pipe
is the supervisor's death. A worker that was not registered yet has heard nothing, and ends by
itself when its channel ends.

A process is known by its pid and the time that it started, so that a pid that was given to somebody
else is left alone. Only the moment between the look and the kill remains.

This file is also the reaper's program: standard library only, run by its path with `-I -S`.
"""

import contextlib
import functools
import os
import signal
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import IO

READY = b"."


class Reaper:
    """The supervisor's side. Used by one thread at a time."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._born: dict[int, int] = {}

    def start(self) -> None:
        """Start the reaper's process; it hears again what was registered before.

        Raises:
            OSError: it did not start.
        """
        self.close()
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and file
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            bufsize=0,
        )
        assert self._process.stdout is not None
        with self._process.stdout as said:
            if said.read(1) != READY:
                raise OSError("the reaper did not start")
        for pid, born in self._born.items():
            self._write(f"+{pid} {born}\n")

    def register(self, pid: int) -> None:
        """Have a live process killed when this one dies."""
        born = born_at(pid)
        if born is not None:
            self._born[pid] = born
            self._send(f"+{pid} {born}\n")

    def unregister(self, pid: int) -> None:
        """Leave a process alone again; call this before its pid can be given away."""
        if self._born.pop(pid, None) is not None:
            self._send(f"-{pid}\n")

    def close(self) -> None:
        """End the reaper; what is still registered is killed."""
        if self._process is not None:
            assert self._process.stdin is not None
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            self._process.wait()
            self._process = None

    def _send(self, line: str) -> None:
        try:
            self._write(line)
        except OSError:  # somebody ended the reaper: the next one hears all of it again
            self.start()

    def _write(self, line: str) -> None:
        assert self._process is not None, "the reaper was not started"
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode())


def born_at(pid: int) -> int | None:
    """When a process started, in the kernel's ticks since boot; None when there is none."""
    if sys.platform == "darwin":
        usage = _darwin().read_process(pid)
        return None if usage is None else usage.started_ticks
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19])  # field 22; a name may hold blanks and )


@functools.cache
def _darwin() -> ModuleType:
    """darwin.py, without its package: that would import the pool, and all that it needs."""
    spec = spec_from_file_location("darwin", Path(__file__).with_name("darwin.py"))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def reap(lines: IO[str]) -> None:
    """Read registrations until their pipe ends, then kill who is registered."""
    registered: dict[int, int] = {}
    for line in lines:
        if line.startswith("-"):
            registered.pop(int(line[1:]), None)
        else:
            pid, born = line[1:].split()
            registered[int(pid)] = int(born)
    for pid, born in registered.items():
        if born_at(pid) == born:
            _kill(pid)


def _kill(pid: int) -> None:
    with contextlib.suppress(OSError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)


def main() -> None:
    """Be the reaper."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(ignored, signal.SIG_IGN)
    os.write(1, READY)
    reap(sys.stdin)


if __name__ == "__main__":
    main()
