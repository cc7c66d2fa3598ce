"""Programs that ask the kernel for what only a privileged or a foreign process should get."""
# ruff: noqa: E501 - the lines of programs are data

import textwrap

from hostile.processes import SYSCALLS
from hostile.program import FAILED, calls, stdio

_RIGHTS = "needs rights or a kernel that not every machine has"
_OWN = "it would change its judge's own process"


def _raw(name: str, x86: int, arm: int, arguments: str, setup: str = "", why: str = _RIGHTS):
    """A program that wins where one raw system call succeeds."""
    code = f"{SYSCALLS}\n{textwrap.dedent(setup)}\ndef f(x):\n    done = syscall({x86}, {arm}, {arguments})\n"
    return calls(
        name,
        f"{code}    return 'escaped' if done >= 0 else 'stopped'\n",
        FAILED,
        harm=None,
        why=why,
    )


_TEXT = """
held = [ctypes.create_string_buffer(t) for t in (b'tmpfs', b'/tmp', b'/')]
T, P, R = map(ctypes.addressof, held)
"""
_ROOM = "held = ctypes.create_string_buffer(512)\nA = ctypes.addressof(held)"

PROGRAMS = (
    _raw("mount", 165, 40, "T, P, T, 0, 0", _TEXT),
    _raw("remount_root_writable", 165, 40, "0, R, 0, 32, 0", _TEXT),
    _raw("bind_mount", 165, 40, "R, P, 0, 4096, 0", _TEXT),
    _raw("umount", 166, 39, "P, 2", _TEXT),
    _raw("fsopen", 430, 430, "T, 0", _TEXT),
    _raw("open_tree", 428, 428, "-100, R, 1", _TEXT),
    _raw("pivot_root", 155, 41, "P, P", _TEXT),
    _raw("chroot", 161, 51, "P", _TEXT),
    _raw("unshare_user", 272, 97, "0x10000000"),
    _raw("unshare_mounts", 272, 97, "0x00020000"),
    _raw("unshare_network", 272, 97, "0x40000000"),
    _raw(
        "setns_of_init",
        308,
        268,
        "syscall(257, 56, -100, P, 0), 0",
        "held = ctypes.create_string_buffer(b'/proc/1/ns/net')\nP = ctypes.addressof(held)",
    ),
    _raw("setns_by_pidfd", 308, 268, "syscall(434, 434, 1, 0), 0x40000000"),
    _raw("ptrace_of_itself", 101, 117, "0, 0, 0, 0", why=_OWN),
    _raw("ptrace_of_init", 101, 117, "16902, 1, 0, 0"),
    _raw("ptrace_of_the_parent", 101, 117, "16, os.getppid(), 0, 0"),
    _raw(
        "read_memory_of_init",
        310,
        270,
        "1, A, 1, A, 1, 0",
        _ROOM + "\nimport struct\nheld.raw = struct.pack('2Q', A + 256, 8).ljust(512, b'\\0')",
    ),
    _raw(
        "write_memory_of_the_parent",
        311,
        271,
        "os.getppid(), A, 1, A, 1, 0",
        _ROOM + "\nimport struct\nheld.raw = struct.pack('2Q', A + 256, 8).ljust(512, b'\\0')",
    ),
    _raw("bpf", 321, 280, "0, A, 72", _ROOM),
    _raw(
        "performance_events",
        298,
        241,
        "A, 0, -1, -1, 0",
        _ROOM
        + "\nimport struct\nheld.raw = struct.pack('2I3Q', 1, 112, 0, 0, 0).ljust(512, b'\\0')",
    ),
    _raw("userfaultfd", 323, 282, "1"),
    _raw("keyring_join", 250, 219, "1, 0"),
    _raw(
        "keyring_add",
        248,
        217,
        "U, D, D, 2, -3",
        """
        held = [ctypes.create_string_buffer(t) for t in (b'user', b'ab')]
        U, D = map(ctypes.addressof, held)
        """,
    ),
    _raw("memfd", 319, 279, "T, 0", _TEXT),
    _raw("secret_memfd", 447, 447, "0"),
    _raw("personality", 135, 92, "0x0040000", why=_OWN),
    _raw("lock_memory", 151, 230, "1", why=_OWN),
    _raw("reboot", 169, 142, "0xfee1dead - (1 << 32), 672274793, 0, 0"),
    _raw("set_the_clock", 227, 112, "0, A", _ROOM),
    _raw("swap", 167, 224, "P, 0", _TEXT),
    _raw("load_a_module", 175, 105, "A, 1, A", _ROOM),
    _raw("kexec", 246, 104, "0, 0, 0, 0"),
    _raw("host_name", 170, 161, "P, 4", _TEXT),
    _raw(
        "open_by_handle",
        304,
        265,
        "-100, A, 0",
        _ROOM + "\nimport struct\nheld.raw = struct.pack('II', 8, 1).ljust(512, b'\\0')",
    ),
    _raw("kernel_log", 103, 116, "3, A, 100", _ROOM),
    _raw("become_root", 105, 146, "0"),
    _raw(
        "all_capabilities",
        126,
        91,
        "A, A + 16",
        _ROOM
        + "\nimport struct\nheld.raw = struct.pack('2I2x', 0x20080522, 0)[:8].ljust(16, b'\\0') + b'\\xff' * 24 + b'\\0' * 472",
    ),
    _raw(
        "other_architecture",
        0x40000000 + 41,
        198,
        "2, 1, 0",
        why="the x32 table, which few kernels have",
    ),
    _raw("seccomp_off", 317, 277, "0, 0, 0", why=_OWN),
    calls(
        "affinity",
        "import os\ndef f(x):\n    os.sched_setaffinity(os.getppid(), {0})\n    return 'escaped'",
        FAILED,
        harm=None,
        why="it would slow its parent",
    ),
    calls(
        "priority",
        "import os\ndef f(x):\n    os.setpriority(os.PRIO_PROCESS, 0, -20)\n    return 'escaped'",
        FAILED,
        harm=None,
        why=_RIGHTS,
    ),
    calls(
        "real_time",
        """
        import os
        def f(x):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
            return 'escaped'
        """,
        FAILED,
        harm=None,
        why=_RIGHTS,
    ),
    calls(
        "raised_limits",
        """
        import resource
        def f(x):
            for limit in (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
                try:
                    resource.setrlimit(limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                    return 'escaped'
                except (OSError, ValueError):
                    pass
        """,
        FAILED,
        harm=None,
        why=_RIGHTS,
    ),
    calls(
        "limits_of_others",
        """
        import os, resource
        def f(x):
            for pid in (1, os.getppid(), x['victim']):
                try:
                    resource.prlimit(pid, resource.RLIMIT_NOFILE)
                    return 'escaped'
                except (OSError, ValueError):
                    pass
        """,
        FAILED,
    ),
    calls(
        "dumpable_again",
        """
        import ctypes, os
        def f(x):
            ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
            return open(f'/proc/{os.getppid()}/environ').read() and 'escaped'
        """,
        FAILED,
        harm=None,
        why="its parent is not always its own",
    ),
    calls(
        "parent_death_signal_off",
        """
        import ctypes, time
        def f(x):
            ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
            return 'stopped'
        """,
        FAILED,
        harm=None,
        why="what it takes away shows when the supervisor dies; test_lifetime tries that",
    ),
    stdio(
        "new_session",
        "import os\ntry:\n    os.setsid()\nexcept OSError:\n    pass\nos.write(1, b'stopped')",
        FAILED,
        harm="ends",
    ),
    calls(
        "core_dump",
        """
        import os, resource
        def f(x):
            return 'escaped' if resource.getrlimit(resource.RLIMIT_CORE)[1] else 'stopped'
        """,
        FAILED,
        harm=None,
        why="depends on the machine",
    ),
    calls(
        "no_capability_is_left",
        """
        def f(x):
            lines = dict(line.split(':', 1) for line in open('/proc/self/status'))
            caps = [int(lines[name], 16) for name in ('CapEff', 'CapPrm', 'CapInh', 'CapAmb', 'CapBnd')]
            return 'escaped' if any(caps[:4]) else 'stopped'
        """,
        FAILED,
        harm=None,
        why="only root has them unconfined",
    ),
    calls(
        "processes_in_sight",
        """
        import os
        def f(x):
            seen = [p for p in os.listdir('/proc') if p.isdigit() and int(p) != os.getpid()]
            named = [p for p in seen if os.path.exists(f'/proc/{p}/cmdline') and open(f'/proc/{p}/cmdline').read()]
            return 'escaped' if named else 'stopped'
        """,
        FAILED,
    ),
)
