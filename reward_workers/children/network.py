"""No network for a process that needs none: a reward function's child, unless it says so."""

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

from protocol.errors import SandboxUnavailable
from reward_workers.sandbox.harness.linux import seccomp
from reward_workers.sandbox.harness.linux.seccomp import Instruction

LAYER = "network"
"""Its name in sandbox.allow_degraded."""

_SOCKET = {"x86_64": 41, "aarch64": 198}
_IO_URING_SETUP = 425


def deny_network() -> None:
    """Take from this process, and all that it starts, every socket but local ones, for good.

    To be called before the process has threads.

    Raises:
        SandboxUnavailable: the system refuses.
    """
    try:
        _deny()
    except (OSError, KeyError, RuntimeError) as error:
        raise SandboxUnavailable(
            f"layer {LAYER}: a reward's process cannot be kept off the network "
            f"({type(error).__name__}: {error}): use a kernel with seccomp, or allow it by "
            f"sandbox.allow_degraded=[{LAYER}]"
        ) from None


def _deny() -> None:
    if sys.platform == "darwin":
        from reward_workers.sandbox.harness.macos.seatbelt import deny_network as deny

        deny()
    else:
        _install(_program(platform.machine()))


def _program(machine: str) -> list[Instruction]:
    """Refuses socket() but for AF_UNIX, io_uring (which has sockets, too) and other call tables."""
    allow = (seccomp.RETURN, 0, 0, seccomp.ALLOW)
    refuse = (seccomp.RETURN, 0, 0, seccomp.REFUSE | errno.EPERM)
    return [
        (seccomp.LOAD, 0, 0, seccomp.ARCHITECTURE_AT),
        (seccomp.JUMP_EQUAL, 1, 0, seccomp.AUDIT_ARCHITECTURES[machine]),
        refuse,
        (seccomp.LOAD, 0, 0, seccomp.NUMBER_AT),
        (seccomp.JUMP_GREATER_EQUAL, 0, 1, 0x40000000),  # x32's numbers
        refuse,
        (seccomp.JUMP_EQUAL, 0, 1, _IO_URING_SETUP),
        refuse,
        (seccomp.JUMP_EQUAL, 1, 0, _SOCKET[machine]),
        allow,
        (seccomp.LOAD, 0, 0, seccomp.ARGUMENTS_AT),
        (seccomp.JUMP_EQUAL, 0, 1, int(socket.AF_UNIX)),
        allow,
        refuse,
    ]


def _install(program: list[Instruction]) -> None:
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    set_no_new_privs, set_seccomp, mode_filter = 38, 22, 2
    code = ctypes.create_string_buffer(
        b"".join(struct.pack("<HBBI", *instruction) for instruction in program)
    )
    head = struct.pack("@HP", len(program), ctypes.addressof(code))
    for arguments in ((set_no_new_privs, 1, 0, 0, 0), (set_seccomp, mode_filter, head, 0, 0)):
        if prctl(*arguments):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
