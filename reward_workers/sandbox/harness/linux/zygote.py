"""A process that never hears a candidate, and clones itself for each: a fresh interpreter in 2 ms.

It has one thread, and one socket to the supervisor, whose end ends it.
"""

import gc
import json
import signal
import socket

from reward_workers.sandbox.harness.linux.confine import Confinement
from reward_workers.sandbox.harness.linux.init import Request, guard, tell

NUM_DESCRIPTORS = 4
MAX_REQUEST_BYTES = 1 << 16
_NEW_UTS, _NEW_IPC, _NEW_PIDS, _NEW_NETWORK = 0x04000000, 0x08000000, 0x20000000, 0x40000000
_NAMESPACES = _NEW_UTS | _NEW_IPC | _NEW_PIDS | _NEW_NETWORK
"""Of mounts, the guardian makes its own."""


def next_candidate(confinement: Confinement, control: socket.socket) -> Request | None:
    """Answer requests until the supervisor has gone.

    Returns:
        What this process is to be: returns once in each candidate's process, still to be
        confined, and in the zygote with None when it is done.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps the guardians
    gc.collect()
    gc.freeze()  # so that a collection in a candidate copies no pages of the zygote
    control.sendall(b"ready")
    while True:
        message, fds, _, _ = socket.recv_fds(control, MAX_REQUEST_BYTES, NUM_DESCRIPTORS)
        if not message:
            return None
        with _Descriptors(fds) as held:
            if len(held) != NUM_DESCRIPTORS:
                continue
            request = Request(json.loads(message)["limits"], *held)
            if _clone(confinement, request.status):
                continue
            guard(confinement, request)
            held.clear()
            control.detach()  # its descriptor was closed, and may be the candidate's by now
            return request


class _Descriptors(list[int]):
    """Descriptors that are closed at the end."""

    def __enter__(self) -> "_Descriptors":
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self:
            socket.close(fd)


def _clone(confinement: Confinement, status: int) -> bool:
    """Whether this process still is the zygote."""
    try:
        pid = confinement.kernel.call("clone", _NAMESPACES | signal.SIGCHLD, 0, 0, 0, 0)
    except OSError as error:
        tell(status, {"fault": f"namespaces for a worker: {error}"})
        return True
    return pid != 0
