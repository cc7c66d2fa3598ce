"""Programs that take more memory than they may: all of it here is 256 MB."""

from hostile.program import CRASHED, FAILED, OOM, TIMEOUT, calls, in_tests, stdio

PROGRAMS = (
    calls("at_once", "def f(x):\n    a = b'x' * (700 << 20)\n    return 'escaped'", OOM),
    calls("at_load", "a = b'x' * (700 << 20)\ndef f(x): return 'escaped'", OOM),
    stdio("in_a_program", "a = b'x' * (700 << 20)\nprint('escaped')", OOM),
    in_tests("in_a_test", "def f(x):\n    a = b'x' * (700 << 20)\n    return 'escaped'", OOM),
    calls(
        "in_steps",
        """
        def f(x):
            held = []
            for _ in range(700):
                held.append(bytearray(b'x' * (1 << 20)))
            return 'escaped'
        """,
        OOM,
    ),
    calls(
        "small_objects",
        "def f(x):\n    a = [[i] * 16 for i in range(4_000_000)]\n    return 'escaped'",
        OOM,
    ),
    calls(
        "swallowed",
        """
        def f(x):
            held = []
            while len(held) < 700:
                try:
                    held.append(b'x' * (1 << 20))
                except MemoryError:
                    pass
            return 'escaped'
        """,
        OOM,
    ),
    calls(
        "by_threads",
        """
        import threading
        held = []
        def take():
            for _ in range(90):
                held.append(bytearray(b'x' * (1 << 20)))
        def f(x):
            threads = [threading.Thread(target=take) for _ in range(8)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            return 'escaped' if len(held) == 720 else 'stopped'
        """,
        OOM,
        FAILED,
        why="a MemoryError in a thread ends the thread alone; the main one then answers wrongly",
    ),
    calls(
        "by_mmap",
        """
        import mmap
        def f(x):
            held = mmap.mmap(-1, 700 << 20)
            for i in range(0, 700 << 20, 4096):
                held[i] = 1
            return 'escaped'
        """,
        FAILED,
    ),
    calls(
        "by_shared_mmap",
        """
        import mmap
        def f(x):
            held = mmap.mmap(-1, 700 << 20, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
            for i in range(0, 700 << 20, 4096):
                held[i] = 1
            return 'escaped'
        """,
        FAILED,
    ),
    calls(
        "by_malloc",
        """
        import ctypes
        def f(x):
            libc = ctypes.CDLL(None)
            libc.malloc.restype = ctypes.c_void_p
            place = libc.malloc(ctypes.c_size_t(700 << 20))
            if not place:
                return 'stopped'
            ctypes.memset(place, 1, 700 << 20)
            return 'escaped'
        """,
        FAILED,
    ),
    calls("big_integer", "def f(x):\n    a = 1 << (700 * 8 << 20)\n    return 'escaped'", OOM),
    calls("big_list", "def f(x):\n    a = [0] * (90 << 20)\n    return 'escaped'", OOM),
    calls(
        "doubling_string",
        "def f(x):\n    s = 'x'\n    while len(s) < 700 << 20: s += s\n    return 'escaped'",
        OOM,
    ),
    calls("raised_by_itself", "def f(x):\n    raise MemoryError", OOM, harm="ends"),
    calls(
        "memory_error_of_its_own",
        "class MemoryError(Exception): pass\ndef f(x):\n    raise MemoryError",
        OOM,
        harm="ends",
    ),
    calls(
        "deep_recursion",
        """
        import sys
        sys.setrecursionlimit(10 ** 9)
        def g(n):
            return g(n + 1)
        def f(x):
            return g(0)
        """,
        OOM,
        CRASHED,
        TIMEOUT,
        harm=None,
        why="the interpreter's stack or its heap ends first; unconfined it would take all memory",
    ),
    calls(
        "deep_c_recursion",
        """
        import sys
        sys.setrecursionlimit(10 ** 9)
        class A:
            def __getattr__(self, name): return getattr(self, name + 'x'[:0])
            def __repr__(self): return repr(self)
        def f(x):
            return repr(A())
        """,
        CRASHED,
        OOM,
        harm=None,
        why="the C stack overflows (a signal), or memory ends first; unconfined it may take all",
    ),
)
