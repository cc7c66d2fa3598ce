"""Programs that end their process by a fault of the interpreter or of the machine."""
# ruff: noqa: E501 - the lines of programs are data

from hostile.program import CRASHED, FAILED, OOM, calls, in_tests, stdio

_ONE_IS_TWO = """
import ctypes
def f(x):
    ctypes.memmove(id(1) + 24, ctypes.byref(ctypes.c_int32(2)), 4)
    return 2
"""

PROGRAMS = (
    calls(
        "null_pointer", "import ctypes\ndef f(x):\n    ctypes.string_at(0)", CRASHED, harm="ends"
    ),
    calls(
        "null_pointer_at_load",
        "import ctypes\nctypes.string_at(0)\ndef f(x): return 'escaped'",
        CRASHED,
        harm="ends",
    ),
    stdio(
        "null_pointer_after_the_answer",
        "import ctypes\nprint('escaped', flush=True)\nctypes.string_at(0)",
        CRASHED,
        harm="ends",
    ),
    in_tests(
        "null_pointer_in_a_test",
        "import ctypes\ndef f(x):\n    ctypes.string_at(0)",
        CRASHED,
        harm="ends",
    ),
    calls("abort", "import os\ndef f(x):\n    os.abort()", CRASHED, harm="ends"),
    in_tests("abort_in_a_test", "import os\ndef f(x):\n    os.abort()", CRASHED, harm="ends"),
    calls(
        "abort_by_libc",
        "import ctypes\ndef f(x):\n    ctypes.CDLL(None).abort()",
        CRASHED,
        harm="ends",
    ),
    calls(
        "bad_bytecode",
        """
        def g(): pass
        def f(x):
            g.__code__ = g.__code__.replace(co_code=bytes([100, 255, 83, 0]) * 8, co_consts=())
            return g()
        """,
        CRASHED,
        FAILED,
        harm=None,
        why="what such code does is undefined: a fault, or an error",
    ),
    calls(
        "illegal_instruction",
        "import os, signal\ndef f(x):\n    os.kill(os.getpid(), signal.SIGILL)",
        CRASHED,
        harm="ends",
    ),
    calls(
        "fault_of_its_own",
        """
        import os, signal
        def f(x):
            signal.signal(signal.SIGSEGV, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGSEGV)
        """,
        CRASHED,
        harm="ends",
    ),
    calls(
        "fault_handler",
        "import faulthandler\ndef f(x):\n    faulthandler._sigsegv()",
        CRASHED,
        harm="ends",
    ),
    calls(
        "object_freed_twice",
        """
        import ctypes
        def f(x):
            a = [object() for _ in range(1000)]
            for o in a:
                for _ in range(9): ctypes.pythonapi.Py_DecRef(ctypes.py_object(o))
            a.clear()
            import gc
            gc.collect()
            return [object() for _ in range(10000)] and None
        """,
        CRASHED,
        FAILED,
        harm=None,
        why="what freed memory does is undefined",
    ),
    calls(
        "value_of_one",
        _ONE_IS_TWO,
        FAILED,
        CRASHED,
        args=(1,),
        expected=1,
        why="an interpreter whose 1 is 2 answers wrongly, out of order, or not at all",
    ),
    in_tests(
        "value_of_one_in_a_test",
        _ONE_IS_TWO,
        FAILED,
        CRASHED,
        tests=("assert f(0) == 1",),
        why="an interpreter whose 1 is 2 answers wrongly, out of order, or not at all",
    ),
    calls(
        "true_is_false",
        "import ctypes\ndef f(x):\n    ctypes.memmove(id(False), id(True), 32)\n    return False",
        FAILED,
        CRASHED,
        expected=True,
        why="an interpreter whose False is True answers wrongly, or not at all",
        harm=None,
    ),
    calls("syntax_error", "def f(x:\n", FAILED, harm="ends"),
    calls("null_in_the_source", "def f(x):\0 return 'escaped'", FAILED, harm="ends"),
    calls(
        "surrogate_in_the_source",
        "def f(x): return '\ud800'",
        FAILED,
        harm=None,
        why="no file can hold it",
    ),
    calls("empty_source", "", FAILED, harm="ends"),
    calls("no_entry", "def g(x): return 'escaped'", FAILED, harm="ends"),
    calls("entry_is_no_function", "f = 'escaped'", FAILED, harm="ends"),
    in_tests("no_entry_for_a_test", "def g(x): return 'escaped'", FAILED, harm="ends"),
    calls(
        "nested_source",
        "def f(x): return " + "(" * 5000 + "1" + ")" * 5000,
        FAILED,
        harm="ends",
    ),
    calls(
        "deep_source",
        "def f(x): return " + "-" * 200_000 + "1",
        FAILED,
        OOM,
        CRASHED,
        harm="ends",
        why="the parser's stack: RecursionError, MemoryError, or a fault, by version",
    ),
    calls("endless_recursion", "def f(x): return f(x)", FAILED, harm="ends"),
    in_tests("endless_recursion_in_a_test", "def f(x): return f(x)", FAILED, harm="ends"),
    calls(
        "exception_group",
        """
        def f(x):
            e = ValueError()
            for _ in range(500): e = ExceptionGroup('x', [e])
            raise e
        """,
        FAILED,
        harm="ends",
    ),
    calls(
        "hostile_exception",
        """
        class Sly(BaseException):
            __module__ = property(lambda self: 1 / 0)
            args = property(lambda self: 1 / 0)
            def __str__(self): raise self
            def __repr__(self): raise self
            def __getattribute__(self, name): raise self
        def f(x):
            raise Sly
        """,
        FAILED,
        CRASHED,
        harm="ends",
        why="an exception that raises itself when it is looked at: it must be told, or end the worker",
    ),
    calls(
        "hostile_metaclass",
        """
        class Meta(type):
            def __getattribute__(self, name): raise SystemExit(0)
            def __instancecheck__(self, other): return True
            def __eq__(self, other): return True
            __hash__ = type.__hash__
        class Sly(metaclass=Meta): pass
        def f(x):
            return Sly()
        """,
        CRASHED,
        harm="ends",
    ),
    calls(
        "lying_class",
        """
        class A:
            __class__ = str
            def __eq__(self, other): return True
        def f(x):
            return A()
        """,
        FAILED,
    ),
)
