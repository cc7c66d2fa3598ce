"""What a live Linux process has used, from /proc."""

import os

from reward_workers.sandbox.backend import Usage

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STATE, _UTIME, _STIME, _NUM_THREADS = 0, 11, 12, 17
"""Fields of /proc/PID/stat, counted after the command's closing parenthesis."""


def read_usage(pid: int) -> Usage | None:
    """CPU time, time spent waiting for a CPU, memory and threads; None once it has ended.

    The waiting of threads that have ended is not counted. A process lives for as long as one of
    its threads does, though its first may have ended.
    """
    try:
        stat = _read(f"/proc/{pid}/stat")
        tasks = os.listdir(f"/proc/{pid}/task")
        waiting = [_waiting(pid, task) for task in tasks]
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(b")")[2].split()
    if fields[_STATE] in (b"Z", b"X") and len(tasks) <= 1:
        return None
    return Usage(
        cpu_seconds=(int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS_PER_SECOND,
        waiting_seconds=sum(waiting) / 1e9,
        resident_bytes=max(_resident_pages(pid, task) for task in tasks) * _PAGE_BYTES,
        num_threads=int(fields[_NUM_THREADS]),
    )


def _waiting(pid: int, task: str) -> int:
    """Nanoseconds that a thread was runnable without running."""
    try:
        return int(_read(f"/proc/{pid}/task/{task}/schedstat").split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0  # a thread that has just ended, or a kernel without schedstat: see layers.py


def _resident_pages(pid: int, task: str) -> int:
    """Of the whole process; 0 from a thread that has ended."""
    try:
        return int(_read(f"/proc/{pid}/task/{task}/statm").split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)
