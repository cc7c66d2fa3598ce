"""The guardian above each candidate's process: prepares its mounts, forks it, tells how it ended.

In a process namespace of its own it is process 1, so that its end takes along whatever is left
there. It hears nothing: all that it keeps open is the pipe that it writes one line on.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping
from typing import NamedTuple, NoReturn

from reward_workers.sandbox.harness.linux.confine import (
    Confinement,
    give_up_privileges,
    take_descriptors,
)

FAULT_EXIT = 70
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 2, 4, 8, 0x4000, 0x40000
_NEW_MOUNTS = 0x00020000
_MAX_INODES = 4096
_PR_SET_PDEATHSIG = 1


class Request(NamedTuple):
    """What a worker is made of."""

    limits: Mapping[str, float]
    channel: int
    stdout: int
    stderr: int
    status: int
    """Pipe for one line of JSON: how the candidate's process ended, or {"fault": why not begun}."""


def guard(confinement: Confinement, request: Request) -> None:
    """Fork the candidate's process. Returns in that one only, its descriptors in place."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if confinement.place.own_mounts:
            _mount_tmp(confinement, int(request.limits["tmp_bytes"]))
        else:  # no sandbox to end with
            confinement.kernel.call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.chdir(confinement.place.tmp)
        give_up_privileges(confinement.kernel)
        pid = os.fork()
    except OSError as error:
        tell(request.status, {"fault": f"a worker could not be made: {error}"})
        os._exit(FAULT_EXIT)
    if pid != 0:
        _wait(confinement, pid, request.status)
    confinement.kernel.call("prctl", _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    take_descriptors(
        confinement.kernel,
        channel=request.channel,
        stdout=request.stdout,
        stderr=request.stderr,
    )


def tell(status: int, line: dict[str, object]) -> None:
    """Write a status line; a supervisor that has gone needs none."""
    try:
        os.write(status, json.dumps(line).encode() + b"\n")
    except BrokenPipeError:
        sys.exit(FAULT_EXIT)


def _mount_tmp(confinement: Confinement, tmp_bytes: int) -> None:
    call, tmp = confinement.kernel.call, confinement.place.tmp.encode()
    call("unshare", _NEW_MOUNTS)
    call("mount", None, b"/", None, _MS_REC | _MS_PRIVATE, None)
    options = f"size={tmp_bytes},nr_inodes={_MAX_INODES},mode=0700".encode()
    call("mount", b"tmpfs", tmp, b"tmpfs", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, options)


def _wait(confinement: Confinement, pid: int, status: int) -> NoReturn:
    os.dup2(status, 0)
    confinement.kernel.call("close_range", 1, 0xFFFFFFFF, 0)
    _, how, usage = os.wait4(pid, 0)
    tell(
        0,
        {
            "exit_code": os.WEXITSTATUS(how) if os.WIFEXITED(how) else None,
            "signal": os.WTERMSIG(how) if os.WIFSIGNALED(how) else None,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "peak_bytes": usage.ru_maxrss * 1024,
        },
    )
    os._exit(0)
