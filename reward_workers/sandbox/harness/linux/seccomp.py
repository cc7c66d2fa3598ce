"""Which system calls the candidate's process may make: a seccomp program, built here.

The program is a list of allowed calls. Anything else fails with EPERM, a call of another
architecture ends the process. The kernel interprets the program, in classic BPF, on each call.
"""

import ctypes
import errno
import struct
from collections.abc import Sequence
from typing import NamedTuple

from reward_workers.sandbox.harness.linux.syscalls import Kernel, allowed, numbers

AUDIT_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

LOAD, AND, JUMP_EQUAL, JUMP_GREATER_EQUAL, RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
"""Opcodes of classic BPF: `A = data[k]`, `A &= k`, `A == k ?`, `A >= k ?`, `return k`."""

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
REFUSE = 0x00050000
"""Plus the errno."""

NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16
"""Offsets in struct seccomp_data. An argument is 8 bytes, its low half first."""

_X32 = 0x40000000
"""A second call table of x86-64; aarch64 has no number that high."""

_CLONE_THREAD = 0x00000100 | 0x00000800 | 0x00010000  # VM, SIGHAND, THREAD
_CLONE_ELSE = 0x7E02E000 | 0x00000080 | 0x80801000  # namespaces, PTRACE, UNTRACED, PIDFD ...
_AF_UNIX, _SOCK_STREAM, _SOCK_FLAGS = 1, 1, 0x80800
_FCNTL = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030)  # descriptors, flags and locks; no owner, pipes
_IOCTL = (0x541B, 0x5401, 0x5421, 0x5451, 0x5450)  # FIONREAD, TCGETS, FIONBIO, FIOCLEX, FIONCLEX
_MSG_OOB = 1
_PRCTL = (15, 16)  # PR_SET_NAME, PR_GET_NAME

Instruction = tuple[int, int, int, int]
"""Opcode, instructions to skip if true, if false, operand."""


class Word(NamedTuple):
    """A half of an argument must have this value under this mask."""

    argument: int
    value: int
    mask: int = 0xFFFFFFFF
    high: bool = False

    def instructions(self, skip_if_not: int) -> list[Instruction]:
        """Go on if it has; else skip so many instructions after these."""
        at = ARGUMENTS_AT + 8 * self.argument + 4 * self.high
        masking = [] if self.mask == 0xFFFFFFFF else [(AND, 0, 0, self.mask)]
        return [(LOAD, 0, 0, at), *masking, (JUMP_EQUAL, 0, skip_if_not, self.value)]


Alternative = Sequence[Word]
"""All of these."""


def _null(argument: int) -> Alternative:
    return [Word(argument, 0), Word(argument, 0, high=True)]


def rules(pid: int) -> dict[str, list[Alternative]]:
    """Calls that are allowed where one of the alternatives holds."""
    return {
        "clone": [[Word(0, _CLONE_THREAD, _CLONE_THREAD | _CLONE_ELSE)]],
        "kill": [[Word(0, pid)]],
        "tgkill": [[Word(0, pid)]],
        "fcntl": [[Word(1, command)] for command in _FCNTL],
        "ioctl": [[Word(1, command)] for command in _IOCTL],
        "prctl": [[Word(0, option)] for option in _PRCTL],
        "prlimit64": [[Word(0, 0), *_null(2)]],
        "sendto": [[*_null(4), Word(3, 0, _MSG_OOB)]],
        "recvfrom": [[Word(3, 0, _MSG_OOB)]],
        "socketpair": [[Word(0, _AF_UNIX), Word(1, _SOCK_STREAM, 0xFFFFFFFF & ~_SOCK_FLAGS)]],
    }


def program(machine: str, pid: int) -> list[Instruction]:
    """The filter for a process that may signal itself only, by its `pid`."""
    number = numbers(machine)
    refuse = (RETURN, 0, 0, REFUSE | errno.EPERM)
    code: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE_AT),
        (JUMP_EQUAL, 1, 0, AUDIT_ARCHITECTURES[machine]),
        (RETURN, 0, 0, KILL_PROCESS),
        (LOAD, 0, 0, NUMBER_AT),
        (JUMP_GREATER_EQUAL, 0, 1, _X32),
        refuse,
    ]
    # glibc then falls back to clone, whose flags a filter can read
    code += [(JUMP_EQUAL, 0, 1, number["clone3"]), (RETURN, 0, 0, REFUSE | errno.ENOSYS)]
    for name, alternatives in rules(pid).items():
        block = [i for alternative in alternatives for i in _alternative(alternative)]
        block.append(refuse)
        code += [(JUMP_EQUAL, 0, len(block), number[name]), *block]
    decided = {number["clone3"], *(number[name] for name in rules(pid))}
    for first, last in _ranges({*allowed(machine).values()}, decided):
        code += [(JUMP_GREATER_EQUAL, 1, 0, first), refuse]
        code += [(JUMP_GREATER_EQUAL, 1, 0, last + 1), (RETURN, 0, 0, ALLOW)]
    return [*code, refuse]


def _ranges(allowed: set[int], decided: set[int]) -> list[tuple[int, int]]:
    """Ascending ranges that hold all allowed numbers, and else only such as are decided already.

    The kernel runs the program once for every call that there is when it is installed.
    """
    ranges: list[tuple[int, int]] = []
    for number in sorted(allowed):
        if ranges and all(n in decided for n in range(ranges[-1][1] + 1, number)):
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges


def _alternative(words: Alternative) -> list[Instruction]:
    code: list[Instruction] = [(RETURN, 0, 0, ALLOW)]
    for word in reversed(words):
        code = [*word.instructions(len(code)), *code]
    return code


class Filter:
    """The program, built once; what is left for each process is to put its own pid in."""

    def __init__(self, machine: str) -> None:
        first, second = (program(machine, pid) for pid in (1, 2))
        pairs = zip(first, second, strict=True)
        self._at = [index for index, (one, other) in enumerate(pairs) if one != other]
        self._code = b"".join(struct.pack("<HBBI", *instruction) for instruction in first)

    def code(self, pid: int) -> bytes:
        """The program in the kernel's encoding."""
        code = bytearray(self._code)
        for index in self._at:
            struct.pack_into("<I", code, 8 * index + 4, pid)
        return bytes(code)

    def install(self, kernel: Kernel, pid: int) -> None:
        """Confine the calling process from now on. Needs no_new_privs.

        Raises:
            OSError: the kernel has no seccomp, or refuses the program.
        """
        code = self.code(pid)
        held = ctypes.create_string_buffer(code, len(code))
        head = struct.pack("@HP", len(code) // 8, ctypes.addressof(held))
        set_seccomp, mode_filter = 22, 2
        kernel.call("prctl", set_seccomp, mode_filter, head, 0, 0)
