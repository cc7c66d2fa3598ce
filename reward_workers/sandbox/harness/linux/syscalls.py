"""The Linux system calls that confined code may make, by number, on x86-64 and aarch64.

What is not in these tables is refused: there is no list of forbidden calls to keep up to date.
Each entry is `name x86-64 aarch64`; `-` where the architecture has no such call.
"""

import ctypes
import os

_FILES = """
read 0 63, write 1 64, readv 19 65, writev 20 66, pread64 17 67, pwrite64 18 68, preadv 295 69,
pwritev 296 70, lseek 8 62, close 3 57, close_range 436 436, dup 32 23, dup2 33 -, dup3 292 24,
ftruncate 77 46, truncate 76 45, fallocate 285 47, fadvise64 221 223, fsync 74 82,
fdatasync 75 83, sendfile 40 71, copy_file_range 326 285
"""
"""On descriptors; what may be opened is Landlock's business."""

_PATHS = """
open 2 -, openat 257 56, creat 85 -, stat 4 -, fstat 5 80, lstat 6 -, newfstatat 262 79,
statx 332 291, access 21 -, faccessat 269 48, faccessat2 439 439, readlink 89 -,
readlinkat 267 78, getdents64 217 61, getcwd 79 17, chdir 80 49, fchdir 81 50, mkdir 83 -,
mkdirat 258 34, rmdir 84 -, unlink 87 -, unlinkat 263 35, rename 82 -, renameat 264 38,
renameat2 316 276, link 86 -, linkat 265 37, symlink 88 -, symlinkat 266 36, chmod 90 -,
fchmod 91 52, fchmodat 268 53, utimensat 280 88, umask 95 166, statfs 137 43, fstatfs 138 44,
getxattr 191 8, lgetxattr 192 9, fgetxattr 193 10, listxattr 194 11, llistxattr 195 12,
flistxattr 196 13
"""

_MEMORY = """
mmap 9 222, munmap 11 215, mprotect 10 226, mremap 25 216, madvise 28 233, brk 12 214,
msync 26 227
"""

_SIGNALS = """
rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, rt_sigpending 127 136,
rt_sigtimedwait 128 137, rt_sigsuspend 130 133, sigaltstack 131 132, pause 34 -, alarm 37 -,
setitimer 38 103, getitimer 36 102
"""
"""Of the own process."""

_WAITING = """
select 23 -, pselect6 270 72, poll 7 -, ppoll 271 73, epoll_create1 291 20, epoll_ctl 233 21,
epoll_wait 232 -, epoll_pwait 281 22, epoll_pwait2 441 441, pipe 22 -, pipe2 293 59,
shutdown 48 210, getsockopt 55 209, getsockname 51 204, getpeername 52 205,
nanosleep 35 101, clock_nanosleep 230 115, sched_yield 24 124, restart_syscall 219 128,
wait4 61 260, waitid 247 95
"""
"""wait4 and waitid find no child, which is what a program that asks should hear."""

_THREADS = """
futex 202 98, set_robust_list 273 99, rseq 334 293, set_tid_address 218 96, exit 60 93,
exit_group 231 94, sched_getaffinity 204 123
"""

_FACTS = """
clock_gettime 228 113, clock_getres 229 114, gettimeofday 96 169, time 201 -, times 100 153,
getrusage 98 165, getrlimit 97 163, uname 63 160, sysinfo 99 179, getcpu 309 168,
getrandom 318 278, getpid 39 172, gettid 186 178, getppid 110 173, getuid 102 174,
geteuid 107 175, getgid 104 176, getegid 108 177, getresuid 118 148, getresgid 120 150,
getgroups 115 158, getpgrp 111 -, getpgid 121 155, getsid 124 156
"""

_BY_ARGUMENTS = """
fcntl 72 25, ioctl 16 29, kill 62 129, tgkill 234 131, clone 56 220, clone3 435 435,
prctl 157 167, prlimit64 302 261, socketpair 53 199, sendto 44 206,
recvfrom 45 207
"""
"""Allowed for some arguments only, see seccomp.py."""

_CONFINING = """
mount 165 40, capset 126 91, landlock_create_ruleset 444 444, landlock_add_rule 445 445,
landlock_restrict_self 446 446, unshare 272 97, pidfd_open 434 434
"""
"""Never allowed: called while confining, or tried by the self-test."""

ARCHITECTURES = {"x86_64": 0, "aarch64": 1}
"""Column of a table, by `os.uname().machine`."""


def _numbers(table: str, machine: str) -> dict[str, int]:
    column = 1 + ARCHITECTURES[machine]
    entries = [entry.split() for entry in table.split(",")]
    return {entry[0]: int(entry[column]) for entry in entries if entry[column] != "-"}


def allowed(machine: str) -> dict[str, int]:
    """Calls that are allowed whatever their arguments are."""
    tables = (_FILES, _PATHS, _MEMORY, _SIGNALS, _WAITING, _THREADS, _FACTS)
    return {name: number for table in tables for name, number in _numbers(table, machine).items()}


def numbers(machine: str) -> dict[str, int]:
    """Every call that the harness knows."""
    return {
        **allowed(machine),
        **_numbers(_BY_ARGUMENTS, machine),
        **_numbers(_CONFINING, machine),
    }


class Kernel:
    """System calls that the standard library has no function for."""

    def __init__(self) -> None:
        self._numbers = numbers(os.uname().machine)
        self._syscall = ctypes.CDLL(None, use_errno=True).syscall
        self._syscall.restype = ctypes.c_long

    def call(self, name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
        """Make a call.

        Raises:
            OSError: it failed; the message names the call.
        """
        words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
        result = self._syscall(ctypes.c_long(self._numbers[name]), *words)
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{name}: {os.strerror(number)}")
        return result
