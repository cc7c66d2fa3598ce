"""How a role's process begins and ends: exit codes, signals, parents, private temporary folders."""

import contextlib
import ctypes
import logging
import os
import resource
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from typing import NoReturn

from protocol.errors import (
    ConfigError,
    DataError,
    SandboxUnavailable,
    TrainerError,
    UnknownPluginError,
)

log = logging.getLogger("protocol.process")

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
"""The same input would fail again: such a process is never restarted."""

ERROR_PREFIX = "error: "
"""Begins the last line of a process that failed; the rest is the reason."""

STOP_SECONDS = 3.0
"""From the signal that ends a role to its end, whatever it is doing then; honcho waits for 5 s."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_PR_SET_PDEATHSIG = 1
_private_folders: list[str] = []


def run_main(main: Callable[[], int]) -> NoReturn:
    """Run a command to its end and exit with its code; the outermost boundary for errors.

    A failure prints one line, `error: <reason>`, last. Bad input, and a machine that cannot confine
    what the input asks for, exit with 2, everything else that failed with 1; a traceback goes to
    the log only when the failure is our own bug.
    """
    try:
        code = main()
    except (ConfigError, DataError, SandboxUnavailable, UnknownPluginError) as error:
        code = fail(str(error), EXIT_BAD_INPUT)
    except TrainerError as error:
        code = fail(str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        code = fail("interrupted", 128 + signal.SIGINT)
    except Exception as error:
        log.exception("unexpected error")
        code = fail(f"{type(error).__name__}: {error}", EXIT_FAILED)
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)


def fail(reason: str, code: int) -> int:
    """Print the reason as the process's last line; returns `code`."""
    sys.stdout.flush()
    print(ERROR_PREFIX + " ".join(reason.split()), file=sys.stderr, flush=True)  # noqa: T201
    return code


def die_with_parent() -> None:
    """Let this process be killed when its parent ends, however that happens.

    Linux: PR_SET_PDEATHSIG. macOS has none: a thread watches for the parent's change.
    """
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
    else:
        threading.Thread(target=_watch_parent, args=(parent,), daemon=True).start()


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


def arm_hard_exit(seconds: float, code: int, reason: str = "") -> None:
    """End the process after so many seconds, whatever its threads are doing then.

    Args:
        seconds: from now.
        code: the exit code.
        reason: printed as `run_main` prints reasons; empty prints nothing.
    """

    def end() -> None:
        time.sleep(seconds)
        exit_now(code, reason)

    threading.Thread(target=end, name="hard-exit", daemon=True).start()


def end_within(seconds: float) -> None:
    """Bound this process's end: so long after the first SIGTERM or SIGINT, at the second at once.

    The code is 128 + signal then. Python's own handlers, which must be there for both signals, are
    not touched, but they wait until the main thread's call (mx.eval, say) has returned. C's handler
    writes the signal's number to a pipe at once, and a thread reads it. For the main thread, once.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    watch = threading.Thread(target=_watch_signals, args=(reading, seconds), name="signals")
    watch.daemon = True
    watch.start()


def _watch_signals(reading: int, seconds: float) -> None:
    told = False
    while True:
        number = os.read(reading, 1)[0]
        if number not in STOP_SIGNALS:
            continue
        name, code = signal.Signals(number).name, 128 + number
        if told:
            exit_now(code, f"killed by a second signal, {name}")
        told = True
        arm_hard_exit(seconds, code, f"told to end by {name}, and did not within {seconds:g} s")


def exit_now(code: int, reason: str = "") -> NoReturn:
    """End this process from any thread and any call, and take its temporary folder along.

    Args:
        code: the exit code.
        reason: printed as `run_main` prints reasons; empty prints nothing.
    """
    # Past sys.stderr, whose lock another thread may hold, and only where nobody has to read first.
    with contextlib.suppress(OSError, ValueError):
        if reason and select.select([], [2], [], 0.0)[1]:
            os.write(2, f"{ERROR_PREFIX}{reason}\n".encode())
    for folder in _private_folders:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(code)


@contextlib.contextmanager
def private_tmpdir() -> Generator[None]:
    """Give this process a temporary folder of its own, and remove it at the end.

    mx.compile keeps native code under TMPDIR and loads it again: nobody else may write there.
    """
    before, folder = os.environ.get("TMPDIR"), tempfile.mkdtemp(prefix="mlxrl-")
    _private_folders.append(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    try:
        yield
    finally:
        tempfile.tempdir = None
        os.environ.pop("TMPDIR")
        if before is not None:
            os.environ["TMPDIR"] = before
        shutil.rmtree(folder, ignore_errors=True)
        _private_folders.remove(folder)


def peak_rss_bytes() -> int:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def num_cores() -> int:
    """Cores that this process may run on."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def this_host() -> str:
    """Name of this machine, as peers and learner tell it to each other."""
    return socket.gethostname() or "unnamed"
