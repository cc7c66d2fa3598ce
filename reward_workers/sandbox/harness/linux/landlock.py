"""Which files the candidate's process may open: a Landlock domain, stacked on the mounts.

The mounts hide the host; Landlock also hides what the interpreter needed to start: the harness,
programs, devices. It governs opening, making and removing; what is open stays open.
"""

import os
import stat
import struct
from collections.abc import Iterable

from reward_workers.sandbox.harness.linux.syscalls import Kernel

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_REG, MAKE_SYM = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 12
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15

READ = READ_FILE | READ_DIR
WRITE = READ | WRITE_FILE | TRUNCATE | REMOVE_DIR | REMOVE_FILE | REFER
WRITE |= MAKE_DIR | MAKE_REG | MAKE_SYM
"""In a folder of one's own: no execution, and no device, socket or pipe."""

_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
_NUM_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
"""Rights on files by ABI; from 5 on there are 16."""
_PATH_BENEATH = 1


def version(kernel: Kernel) -> int:
    """ABI of this kernel's Landlock.

    Raises:
        OSError: it has none, or it is not switched on.
    """
    return kernel.call("landlock_create_ruleset", None, 0, 1)


def restrict(kernel: Kernel, *, readable: Iterable[str], writable: Iterable[str]) -> None:
    """Leave the calling thread and what it starts these paths, as far as they exist.

    Also no TCP, and no signals or abstract sockets out of the domain, where the kernel can.

    Raises:
        OSError: Landlock is missing or refuses.
    """
    abi = version(kernel)
    handled = (1 << _NUM_RIGHTS.get(abi, 16)) - 1
    bind_and_connect = 3 if abi >= 4 else 0
    signals_and_abstract_sockets = 3 if abi >= 6 else 0
    fields = (handled, bind_and_connect, signals_and_abstract_sockets)
    num_fields = 3 if abi >= 6 else 2 if abi >= 4 else 1
    attributes = struct.pack(f"<{num_fields}Q", *fields[:num_fields])
    ruleset = kernel.call("landlock_create_ruleset", attributes, len(attributes), 0)
    try:
        for paths, rights in ((readable, READ), (writable, WRITE)):
            for path in paths:
                _allow(kernel, ruleset, path, rights & handled)
        kernel.call("landlock_restrict_self", ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(kernel: Kernel, ruleset: int, path: str, rights: int) -> None:
    try:
        at = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(at).st_mode):
            rights &= _OF_FILES
        kernel.call("landlock_add_rule", ruleset, _PATH_BENEATH, struct.pack("<Qi", rights, at), 0)
    finally:
        os.close(at)
