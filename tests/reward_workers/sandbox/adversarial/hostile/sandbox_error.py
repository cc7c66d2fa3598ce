"""Programs that want to break the sandbox itself: a fault of its own would dodge a bad reward."""

from hostile.program import FAILED, OOM, TIMEOUT, calls, in_tests

PROGRAMS = (
    calls(
        "lowest_priority",
        """
        import os
        def f(x):
            try: os.nice(19)
            except OSError: pass
            while True: pass
        """,
        TIMEOUT,
        harm="hangs",
    ),
    calls(
        "idle_class",
        """
        import os
        def f(x):
            try: os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            except OSError: pass
            while True: pass
        """,
        TIMEOUT,
        harm="hangs",
    ),
    calls(
        "another_name",
        """
        import ctypes
        def f(x):
            ctypes.CDLL(None).prctl(15, b') R 1 1 1 (\\n', 0, 0, 0)
            while True: pass
        """,
        TIMEOUT,
        harm="hangs",
    ),
    calls(
        "another_name_and_memory",
        """
        import ctypes
        def f(x):
            ctypes.CDLL(None).prctl(15, b'a) Z 0 0 0 0', 0, 0, 0)
            a = [bytearray(b'x' * (1 << 20)) for _ in range(700)]
            return 'escaped'
        """,
        OOM,
    ),
    calls(
        "main_thread_ends",
        """
        import ctypes, platform, threading, time
        def f(x):
            threading.Thread(target=time.sleep, args=(99,)).start()
            ctypes.CDLL(None).syscall(93 if platform.machine() == 'aarch64' else 60, 0)
        """,
        TIMEOUT,
        harm="hangs",
    ),
    calls(
        "main_thread_ends_and_another_spins",
        """
        import ctypes, platform, threading
        def g():
            while True: pass
        def f(x):
            threading.Thread(target=g).start()
            ctypes.CDLL(None).syscall(93 if platform.machine() == 'aarch64' else 60, 0)
        """,
        TIMEOUT,
        harm="hangs",
    ),
    calls(
        "yield_for_ever",
        "import os\ndef f(x):\n    while True: os.sched_yield()",
        TIMEOUT,
        harm="hangs",
    ),
    calls(
        "spin_in_many_threads",
        """
        import hashlib, threading
        def g():
            while True: hashlib.pbkdf2_hmac('sha256', b'', b'', 10 ** 7)
        def f(x):
            for _ in range(20): threading.Thread(target=g).start()
            g()
        """,
        TIMEOUT,
        harm="hangs",
    ),
    calls(
        "sleep_and_spin",
        """
        import time
        def f(x):
            while True:
                time.sleep(0.002)
                for i in range(20_000): pass
        """,
        TIMEOUT,
        harm="hangs",
    ),
    calls(
        "page_faults",
        """
        import mmap
        def f(x):
            while True:
                held = mmap.mmap(-1, 64 << 20)
                for i in range(0, 64 << 20, 4096): held[i] = 1
                held.close()
        """,
        TIMEOUT,
        OOM,
        harm="hangs",
        why="64 MB at a time is little, but the meter may see two",
    ),
    calls(
        "pretend_to_be_a_fault",
        "def f(x):\n    raise RuntimeError('sandbox_error: the worker was lost before delivery')",
        FAILED,
        harm="ends",
    ),
    calls("connection_lost", "def f(x):\n    raise ConnectionResetError", FAILED, harm="ends"),
    in_tests(
        "the_tester_is_flooded",
        "def f(x): return [[0] * 1000] * 60",
        FAILED,
        tests=("for i in range(5): assert len(f(i)) == 60", "assert f(0) == 'escaped'"),
        harm="ends",
    ),
    in_tests(
        "the_tester_waits",
        "import time\ndef f(x):\n    time.sleep(0.3)\n    return 'wrong'",
        TIMEOUT,
        tests=("for i in range(9): f(i)", "assert f(0) == 'escaped'"),
        harm="ends",
    ),
    in_tests(
        "the_tests_loop_by_its_answers",
        "def f(x): return True",
        TIMEOUT,
        tests=("while f(1): pass",),
        harm="hangs",
    ),
    in_tests(
        "a_value_that_breaks_the_test",
        "def f(x): return -1",
        FAILED,
        tests=("assert [1, 2][f(1) - 7] == 1",),
        harm="ends",
    ),
    in_tests(
        "a_value_that_hangs_the_test",
        "def f(x): return 10 ** 300",
        TIMEOUT,
        OOM,
        FAILED,
        tests=("assert sum(range(f(1))) == 3",),
        harm="hangs",
        why="an OverflowError in some tests, no end in others: the candidate's fault",
    ),
    in_tests(
        "a_value_that_fills_the_tester",
        "def f(x): return 400 << 20",
        OOM,
        FAILED,
        tests=("assert len(bytes(f(1))) == 3",),
        harm="ends",
        why="an error in the test, or an oom of the job: the candidate's fault",
    ),
    in_tests(
        "a_value_that_ends_the_tester",
        "def f(x): return 0",
        FAILED,
        tests=("import sys\nif f(1) == 0: sys.exit(0)\nassert False",),
    ),
)
