"""Programs that end before they are done, mostly with exit code 0."""

from hostile.program import CRASHED, FAILED, PASSED, calls, in_tests, stdio

_TOLD = "it comes as an exception that is told, or as the end of the process"


def _everywhere(name: str, statement: str):
    """The same exit at import and in the call, for calls and for tests."""
    at_load = f"import os, sys\n{statement}\ndef f(x): return 'wrong'"
    in_call = f"import os, sys\ndef f(x):\n    {statement}"
    yield calls(f"{name}_at_load", at_load, CRASHED)
    yield calls(f"{name}_in_a_call", in_call, CRASHED)
    yield in_tests(f"{name}_at_load_of_a_test", at_load, CRASHED)
    yield in_tests(f"{name}_in_a_test", in_call, CRASHED)


PROGRAMS = (
    *_everywhere("sys_exit", "sys.exit(0)"),
    *_everywhere("os_exit", "os._exit(0)"),
    *_everywhere("system_exit", "raise SystemExit"),
    *_everywhere("quit_by_libc", "__import__('ctypes').CDLL(None).exit(0)"),
    calls(
        "exit_by_syscall",
        """
        import ctypes, platform
        def f(x):
            ctypes.CDLL(None).syscall(94 if platform.machine() == 'aarch64' else 231, 0)
        """,
        CRASHED,
    ),
    calls(
        "exit_in_a_thread",
        """
        import os, threading
        def f(x):
            threading.Thread(target=os._exit, args=(0,)).start()
            while True: pass
        """,
        CRASHED,
    ),
    calls(
        "interrupt_main",
        """
        import _thread
        def f(x):
            _thread.interrupt_main()
            for i in range(10**7): pass
            return 'wrong'
        """,
        FAILED,
        harm="ends",
    ),
    calls(
        "exit_in_a_finalizer",
        """
        import os
        class A:
            def __del__(self): os._exit(0)
        def f(x):
            A()
            return 'wrong'
        """,
        CRASHED,
    ),
    calls(
        "system_exit_in_a_finalizer",
        """
        class A:
            def __del__(self): raise SystemExit(0)
        def f(x):
            A()
            return 'wrong'
        """,
        FAILED,
        harm="ends",
    ),
    calls(
        "exit_at_exit",
        "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): return 'wrong'",
        FAILED,
    ),
    in_tests(
        "exit_at_exit_of_a_test",
        "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): return 'wrong'",
        FAILED,
    ),
    stdio(
        "exit_at_exit_of_a_program",
        "import atexit, os\natexit.register(os._exit, 0)\nraise ValueError",
        FAILED,
        CRASHED,
        harm="ends",
        why="an uncaught exception without its exit code; nothing was printed",
    ),
    calls(
        "excepthook",
        "import os, sys\nsys.excepthook = lambda *a: os._exit(0)\ndef f(x): raise ValueError",
        FAILED,
    ),
    calls(
        "unraisable_hook",
        """
        import os, sys
        sys.unraisablehook = lambda *a: os._exit(0)
        class A:
            def __del__(self): 1 / 0
        def f(x):
            A()
            return 'wrong'
        """,
        CRASHED,
    ),
    stdio("exit_0_without_an_answer", "import sys\nsys.exit(0)", FAILED, harm="ends"),
    stdio(
        "exit_0_with_a_wrong_answer",
        "import os\nprint('wrong', flush=True)\nos._exit(0)",
        FAILED,
        harm="ends",
    ),
    stdio(
        "exit_3_with_the_answer",
        "import sys\nprint('escaped', flush=True)\nsys.exit(3)",
        CRASHED,
        harm="ends",
    ),
    stdio(
        "exit_with_a_text",
        "import sys\nprint('escaped', flush=True)\nsys.exit('bye')",
        CRASHED,
        harm="ends",
    ),
    stdio(
        "exception_after_the_answer",
        "print('escaped', flush=True)\nraise ValueError",
        CRASHED,
        harm="ends",
    ),
    stdio("exit_0_with_the_answer", "import os\nprint('escaped', flush=True)\nos._exit(0)", PASSED),
    stdio("sys_exit_0_with_the_answer", "import sys\nprint('escaped')\nsys.exit(0)", PASSED),
    stdio("stdin_is_not_read", "print('escaped')", PASSED, stdin="x" * 3_000_000),
    calls(
        "exit_in_the_second_call",
        """
        import os
        n = []
        def f(x):
            n.append(x)
            if len(n) == 2: os._exit(0)
            return 'escaped'
        """,
        CRASHED,
        times=3,
    ),
    in_tests(
        "exit_in_the_second_test",
        """
        import os
        n = []
        def f(x):
            n.append(x)
            if len(n) == 2: os._exit(0)
            return 'escaped'
        """,
        CRASHED,
        tests=("assert f(1) == 'escaped'",) * 3,
    ),
    calls("generator_exit", "def f(x): raise GeneratorExit", FAILED, harm="ends"),
    calls("stop_iteration", "def f(x): raise StopIteration", FAILED, harm="ends"),
    calls(
        "keyboard_interrupt",
        "def f(x): raise KeyboardInterrupt",
        FAILED,
        harm="ends",
    ),
    calls(
        "base_exception",
        "class Quiet(BaseException): pass\ndef f(x): raise Quiet",
        FAILED,
        harm="ends",
    ),
    calls(
        "subclass_of_system_exit",
        "class Quiet(SystemExit): pass\ndef f(x): raise Quiet(0)",
        FAILED,
    ),
    calls("timeout_error", "def f(x): raise TimeoutError('sandbox_error')", FAILED, harm="ends"),
)
