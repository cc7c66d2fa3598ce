"""How a role's process begins and ends: exit codes, signals, parents, private temporary folders."""

import contextlib
import ctypes
import logging
import os
import resource
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

_PR_SET_PDEATHSIG = 1


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


def arm_hard_exit(seconds: float, code: int) -> None:
    """End the process after so many seconds, whatever its threads are doing then."""

    def end() -> None:
        time.sleep(seconds)
        os._exit(code)

    threading.Thread(target=end, name="hard-exit", daemon=True).start()


@contextlib.contextmanager
def private_tmpdir() -> Generator[None]:
    """Give this process a temporary folder of its own, and remove it at the end.

    mx.compile keeps native code under TMPDIR and loads it again: nobody else may write there.
    """
    before, folder = os.environ.get("TMPDIR"), tempfile.mkdtemp(prefix="mlxrl-")
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    try:
        yield
    finally:
        tempfile.tempdir = None
        os.environ.pop("TMPDIR")
        if before is not None:
            os.environ["TMPDIR"] = before
        shutil.rmtree(folder, ignore_errors=True)


def peak_rss_bytes() -> int:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def this_host() -> str:
    """Name of this machine, as peers and learner tell it to each other."""
    return socket.gethostname() or "unnamed"
