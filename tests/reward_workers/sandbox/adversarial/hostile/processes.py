"""Programs that start a process, or become one, by every way there is."""

from hostile.program import CRASHED, FAILED, PASSED, calls, in_tests, stdio

SYSCALLS = """
import ctypes, os, platform
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
ARM = platform.machine() in ('aarch64', 'arm64')
def syscall(x86, arm, *arguments):
    return libc.syscall(ctypes.c_long(arm if ARM else x86), *map(ctypes.c_long, arguments))
"""
"""Raw system calls, by the numbers of x86-64 and aarch64."""

_BOMB = "unconfined it would take the machine down"

PROGRAMS = (
    calls(
        "fork",
        """
        import os
        def f(x):
            child = os.fork()
            if child == 0:
                os._exit(7)
            return 'escaped' if os.waitpid(child, 0)[1] == 7 << 8 else 'stopped'
        """,
        FAILED,
    ),
    stdio(
        "fork_in_a_program",
        "import os\nif os.fork() == 0:\n    os.write(1, b'escaped')\n    os._exit(0)\nos.wait()",
        CRASHED,
    ),
    in_tests(
        "fork_in_a_test",
        """
        import os
        def f(x):
            if os.fork() == 0: os._exit(0)
            os.wait()
            return 'escaped'
        """,
        FAILED,
    ),
    calls(
        "fork_at_load",
        "import os\nif os.fork() == 0: os._exit(0)\nos.wait()\ndef f(x): return 'escaped'",
        FAILED,
    ),
    calls(
        "fork_swallowed",
        """
        import os
        def f(x):
            for _ in range(100):
                try:
                    if os.fork() == 0: os._exit(0)
                    return 'escaped'
                except OSError:
                    pass
            return 'stopped'
        """,
        FAILED,
    ),
    calls(
        "fork_by_libc",
        """
        import ctypes, os
        def f(x):
            child = ctypes.CDLL(None).fork()
            if child == 0: os._exit(0)
            return 'escaped' if child > 0 else 'stopped'
        """,
        FAILED,
    ),
    calls(
        "fork_by_syscall",
        SYSCALLS
        + """
def f(x):
    child = syscall(56 if ARM else 57, 220, 17 if ARM else 0, 0, 0, 0, 0)
    if child == 0: os._exit(0)
    return 'escaped' if child > 0 else 'stopped'
""",
        FAILED,
    ),
    calls(
        "clone_by_syscall",
        SYSCALLS
        + """
def f(x):
    child = syscall(56, 220, 17, 0, 0, 0, 0)
    if child == 0: os._exit(0)
    return 'escaped' if child > 0 else 'stopped'
""",
        FAILED,
    ),
    calls(
        "clone3_by_syscall",
        SYSCALLS
        + """
import struct
def f(x):
    wanted = ctypes.create_string_buffer(struct.pack('11Q', 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0))
    child = syscall(435, 435, ctypes.addressof(wanted), 88)
    if child == 0: os._exit(0)
    return 'escaped' if child > 0 else 'stopped'
""",
        FAILED,
    ),
    calls(
        "clone_into_a_user_namespace",
        SYSCALLS
        + """
def f(x):
    child = syscall(56, 220, 0x10000000 | 17, 0, 0, 0, 0)
    if child == 0: os._exit(0)
    return 'escaped' if child > 0 else 'stopped'
""",
        FAILED,
    ),
    calls(
        "daemon",
        """
        import os
        def f(x):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    os._exit(0)
                os._exit(0)
            os.wait()
            return 'escaped'
        """,
        FAILED,
    ),
    calls(
        "fork_bomb",
        "import os\ndef f(x):\n    while True: os.fork()",
        FAILED,
        harm=None,
        why=_BOMB,
    ),
    calls(
        "fork_bomb_swallowed",
        """
        import os
        def f(x):
            for _ in range(20_000):
                try:
                    os.fork()
                except OSError:
                    pass
            return 'stopped'
        """,
        FAILED,
        harm=None,
        why=_BOMB,
    ),
    calls(
        "many_threads",
        """
        import threading
        def f(x):
            held = threading.Event()
            threads = [threading.Thread(target=held.wait, daemon=True) for _ in range(200)]
            for thread in threads:
                thread.start()
            held.set()
            return 'escaped'
        """,
        FAILED,
    ),
    calls(
        "few_threads",
        """
        import threading
        def f(x):
            said = []
            threads = [threading.Thread(target=said.append, args=(i,)) for i in range(12)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            return 'escaped' if sorted(said) == list(range(12)) else 'stopped'
        """,
        PASSED,
    ),
    calls(
        "thread_with_a_fork",
        """
        import os, threading
        said = ['stopped']
        def g():
            if os.fork() == 0: os._exit(0)
            os.wait()
            said[0] = 'escaped'
        def f(x):
            thread = threading.Thread(target=g)
            thread.start()
            thread.join()
            return said[0]
        """,
        FAILED,
    ),
)
