"""The filter, by an interpreter of its language, for both architectures."""

import errno
import struct

import pytest

from reward_workers.sandbox.harness.linux import seccomp
from reward_workers.sandbox.harness.linux.syscalls import allowed, numbers

MACHINES = list(seccomp.AUDIT_ARCHITECTURES)
PID = 4242
EPERM = seccomp.REFUSE | errno.EPERM
NEW_USER, NEW_PIDS, VM_SIGHAND_THREAD = 0x10000000, 0x20000000, 0x10900


def decide(machine, number, *arguments, architecture=None):
    """What the filter answers to a call, by the rules of classic BPF."""
    code = seccomp.program(machine, PID)
    architecture = architecture or seccomp.AUDIT_ARCHITECTURES[machine]
    words = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number, architecture, 0, *(word & (2**64 - 1) for word in words))
    a, at = 0, 0
    while True:
        opcode, if_true, if_false, k = code[at]
        at += 1
        if opcode == seccomp.LOAD:
            (a,) = struct.unpack_from("<I", data, k)
        elif opcode == seccomp.AND:
            a &= k
        elif opcode == seccomp.JUMP_EQUAL:
            at += if_true if a == k else if_false
        elif opcode == seccomp.JUMP_GREATER_EQUAL:
            at += if_true if a >= k else if_false
        else:
            assert opcode == seccomp.RETURN
            return k


@pytest.fixture(params=MACHINES)
def ask(request):
    def of(name, *arguments):
        return decide(request.param, numbers(request.param)[name], *arguments)

    return of


@pytest.mark.parametrize("machine", MACHINES)
def test_what_is_in_the_tables_is_allowed_and_nothing_else(machine):
    listed = {*allowed(machine).values()}
    by_arguments = {numbers(machine)[name] for name in [*seccomp.rules(PID), "clone3"]}
    for number in range(1024):
        if number not in by_arguments:
            wanted = seccomp.ALLOW if number in listed else EPERM
            assert decide(machine, number) == wanted, number


def test_another_architecture_ends_the_process_and_the_second_table_is_refused():
    x86, arm = MACHINES
    for machine, other in ((x86, arm), (arm, x86)):
        foreign = seccomp.AUDIT_ARCHITECTURES[other]
        assert decide(machine, 1, architecture=foreign) == seccomp.KILL_PROCESS
    i386 = 0x40000003
    assert decide(x86, 1, architecture=i386) == seccomp.KILL_PROCESS
    assert decide(x86, 0x40000000 | numbers(x86)["write"]) == EPERM


def test_threads_can_be_made_and_processes_and_namespaces_cannot(ask):
    glibc_thread, sigchld = 0x3D0F00, 17
    assert ask("clone", glibc_thread) == seccomp.ALLOW
    assert ask("clone", 0xDEAD << 32 | glibc_thread) == seccomp.ALLOW  # clone reads the low half
    for flags in (
        sigchld,
        0x01200000 | sigchld,
        0x4100 | sigchld,
        glibc_thread | NEW_USER,
        glibc_thread | NEW_PIDS,
        glibc_thread | 0x20000,
        glibc_thread | 0x2000,
        glibc_thread & ~0x10000,
        VM_SIGHAND_THREAD & ~0x100,
    ):
        assert ask("clone", flags) == EPERM, hex(flags)
    assert ask("clone3") == seccomp.REFUSE | errno.ENOSYS


@pytest.mark.parametrize("name", ["kill", "tgkill"])
def test_signals_go_to_itself_only(ask, name):
    assert ask(name, PID, 9) == seccomp.ALLOW
    for other in (0, 1, -1, -PID, PID + 1):
        assert ask(name, other, 9) == EPERM


@pytest.mark.parametrize(
    ("name", "arguments", "verdict"),
    [
        ("fcntl", (3, 1), True),
        ("fcntl", (3, 1030), True),
        ("fcntl", (3, 8), False),  # F_SETOWN
        ("fcntl", (3, 1031), False),  # F_SETPIPE_SZ
        ("ioctl", (0, 0x5401), True),
        ("ioctl", (0, 0x5412), False),  # TIOCSTI
        ("prctl", (15,), True),
        ("prctl", (4, 1), False),  # PR_SET_DUMPABLE
        ("prctl", (22, 2), False),  # PR_SET_SECCOMP
        ("prlimit64", (0, 7, 0, 0x7000), True),
        ("prlimit64", (0, 7, 0x7000, 0), False),
        ("prlimit64", (0, 7, 1 << 32, 0), False),
        ("prlimit64", (1, 7, 0, 0x7000), False),
        ("sendto", (3, 0x7000, 1, 0, 0, 0), True),
        ("sendto", (3, 0x7000, 1, 0, 0x7000, 16), False),
        ("sendto", (3, 0x7000, 1, 0, 1 << 32, 16), False),
        ("socketpair", (1, 1 | 0x80800, 0), True),
        ("socketpair", (1, 2, 0), False),
        ("socketpair", (2, 1, 0), False),
    ],
)
def test_some_calls_depend_on_their_arguments(ask, name, arguments, verdict):
    assert ask(name, *arguments) == (seccomp.ALLOW if verdict else EPERM)


@pytest.mark.parametrize("machine", MACHINES)
def test_only_the_pid_differs_from_one_process_to_the_next(machine):
    prepared = seccomp.Filter(machine)
    code = b"".join(struct.pack("<HBBI", *i) for i in seccomp.program(machine, PID))
    assert prepared.code(PID) == code
    assert len(code) // 8 <= 4096  # what the kernel takes
