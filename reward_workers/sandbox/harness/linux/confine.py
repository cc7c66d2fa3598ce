"""How a candidate's process gives up all that it does not need, before it hears anything.

Order matters: each step takes away what the next one no longer needs, system calls last.
"""

import contextlib
import fcntl
import gc
import math
import mmap
import os
import random
import resource
import struct
import sys
from collections.abc import Mapping
from typing import NamedTuple

from reward_workers.sandbox.harness.linux import landlock, selftest
from reward_workers.sandbox.harness.linux.seccomp import Filter
from reward_workers.sandbox.harness.linux.syscalls import Kernel

CHANNEL = 3
"""Descriptor of the socket to the supervisor; 0 is empty, 1 and 2 are pipes, no other is open."""

_SYSTEM_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo")
_READABLE_DEVICES = ("/dev/zero", "/dev/urandom", "/dev/random")
_PR_SET_DUMPABLE, _PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 4, 23, 24, 38
_CAP_SETPCAP, _CAP_SYS_ADMIN = 8, 21


class Place(NamedTuple):
    """Where a worker runs: told by the backend on the command line, as JSON."""

    tmp: str
    """The one folder that it may write in."""
    harness: str
    """The zip that this module came in."""
    packages: str | None = None
    """More Python packages for candidates."""
    own_mounts: bool = True
    """It may mount, in a namespace of its own."""
    own_user: bool = False
    """The kernel counts no other worker's processes as this one's."""


class Confinement:
    """All that can be made ready before a process is confined, so that confining is quick."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.kernel = Kernel()
        self.mapped_bytes = mapped_bytes()
        self._filter = Filter(os.uname().machine)
        packages = (place.packages,) if place.packages else ()
        libraries = (f"{sys.base_prefix}/lib", os.path.dirname(os.__file__), *_SYSTEM_LIBRARIES)
        self._readable = (*libraries, *packages, *_READABLE_DEVICES)

    def enter(self, limits: Mapping[str, float]) -> None:
        """Confine this process, its descriptors in place, and try whether that holds.

        Raises:
            OSError: a layer is missing.
            EscapeError: the confined process could do what it must not.
        """
        self._limit(limits)
        give_up_privileges(self.kernel)
        writable = (self.place.tmp, "/dev/null")
        landlock.restrict(self.kernel, readable=self._readable, writable=writable)
        self._filter.install(self.kernel, os.getpid())
        hidden = (self.place.harness, "/etc/passwd", "/proc/self/status")
        selftest.check(self.kernel, tmp=self.place.tmp, hidden=hidden)
        random.seed(0)  # one program, one verdict
        gc.collect(0)

    def _limit(self, limits: Mapping[str, float]) -> None:
        # behind the supervisor's meter, which takes note of the reason
        backstop_seconds = math.ceil(limits["cpu_seconds"]) + 1
        bounds = {
            resource.RLIMIT_CPU: backstop_seconds,
            resource.RLIMIT_AS: self.mapped_bytes + int(limits["memory_bytes"]),
            resource.RLIMIT_FSIZE: int(limits["tmp_bytes"]),
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_MSGQUEUE: 0,
            resource.RLIMIT_MEMLOCK: 0,
            resource.RLIMIT_NOFILE: int(limits["max_fds"]),
        }
        if self.place.own_user:
            guardians = 2  # bwrap's reaper and our parent
            bounds[resource.RLIMIT_NPROC] = int(limits["max_threads"]) + guardians
        for name, bound in bounds.items():
            _, hard = resource.getrlimit(name)
            bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
            resource.setrlimit(name, (bound, bound))


def take_descriptors(kernel: Kernel, *, channel: int, stdout: int, stderr: int) -> None:
    """Put the descriptors in their places and close every other one."""
    above = [fcntl.fcntl(fd, fcntl.F_DUPFD, 16) for fd in (channel, stdout, stderr)]
    null = os.open("/dev/null", os.O_RDONLY)
    for source, target in zip((null, *above), (0, CHANNEL, 1, 2), strict=True):
        os.dup2(source, target)
    kernel.call("close_range", CHANNEL + 1, 0xFFFFFFFF, 0)


def give_up_privileges(kernel: Kernel) -> None:
    """Drop every capability, for good, and close this process to debuggers."""
    for capability in (_CAP_SYS_ADMIN, _CAP_SETPCAP):  # what bwrap has left
        if kernel.call("prctl", _PR_CAPBSET_READ, capability, 0, 0, 0):
            _drop_from_bounding_set(kernel, capability)
    version_3, this_process = 0x20080522, 0
    kernel.call("capset", struct.pack("<Ii", version_3, this_process), bytes(24))
    kernel.call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    kernel.call("prctl", _PR_SET_DUMPABLE, 0, 0, 0, 0)


def _drop_from_bounding_set(kernel: Kernel, capability: int) -> None:
    # who has no capabilities may not, nor need to: no_new_privs makes the set a dead letter
    with contextlib.suppress(PermissionError):
        kernel.call("prctl", _PR_CAPBSET_DROP, capability, 0, 0, 0)


def mapped_bytes() -> int:
    """Address space that this process uses by now, found by what still fits under a limit.

    There is no /proc to read it from.
    """
    wide = 1 << 40
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    bound = wide if hard == resource.RLIM_INFINITY else min(wide, hard)
    resource.setrlimit(resource.RLIMIT_AS, (bound, hard))
    fits, too_many = 0, bound // mmap.PAGESIZE
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if _can_map(middle * mmap.PAGESIZE):
            fits = middle
        else:
            too_many = middle
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return bound - fits * mmap.PAGESIZE


def _can_map(num_bytes: int) -> bool:
    try:
        mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0).close()
    except (OSError, MemoryError):
        return False
    return True
