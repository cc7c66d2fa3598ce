"""Values that would run code wherever they are unpickled, evaluated, formatted or loaded."""
# ruff: noqa: E501 - the lines of programs are data

from hostile.program import CRASHED, FAILED, OUTPUT_LIMIT, PASSED, calls, in_tests, stdio

_BOMB = """
import os, pickle
class Bomb:
    def __reduce__(self):
        return os._exit, (0,)
"""

PROGRAMS = (
    calls("bomb", _BOMB + "\ndef f(x): return Bomb()", FAILED, harm="ends"),
    calls(
        "bytes_of_a_bomb", _BOMB + "\ndef f(x): return pickle.dumps(Bomb())", FAILED, harm="ends"
    ),
    calls(
        "text_of_a_bomb",
        _BOMB + "\ndef f(x): return pickle.dumps(Bomb(), 0).decode()",
        FAILED,
        harm="ends",
    ),
    stdio("bomb_of_a_program", _BOMB + "\nos.write(1, pickle.dumps(Bomb()))", FAILED, harm="ends"),
    in_tests(
        "bomb_in_a_test", _BOMB + "\ndef f(x): return pickle.dumps(Bomb())", FAILED, harm="ends"
    ),
    calls(
        "bytes_are_only_bytes",
        _BOMB + "\ndef f(x): return pickle.dumps(Bomb())[:2]",
        PASSED,
        expected=b"\x80\x04",
    ),
    calls(
        "python_to_evaluate", "def f(x): return '__import__(\"os\")._exit(0)'", FAILED, harm="ends"
    ),
    calls(
        "format_to_fill",
        "def f(x): return '{0.__class__.__init__.__globals__} %s %(x)s'",
        FAILED,
        harm="ends",
    ),
    calls("code_object", "def f(x): return f.__code__", FAILED, harm="ends"),
    calls("function", "def f(x): return f", FAILED, harm="ends"),
    calls("module", "import os\ndef f(x): return os", FAILED, harm="ends"),
    calls("class_", "class A: pass\ndef f(x): return A", FAILED, harm="ends"),
    calls("memory_view", "def f(x): return memoryview(b'escaped')", FAILED, harm="ends"),
    calls(
        "marshal", "import marshal\ndef f(x): return marshal.dumps(f.__code__)", FAILED, harm="ends"
    ),
    calls("yaml", "def f(x): return '!!python/object/apply:os._exit [0]'", FAILED, harm="ends"),
    in_tests(
        "attribute_names",
        "def f(x): return {'__class__': 'os', '__reduce__': 1, '__proto__': 2}",
        FAILED,
        harm="ends",
    ),
    in_tests(
        "odd_callables",
        """
        import os
        system = os._exit
        class A:
            def __call__(self): raise SystemExit
        a = A()
        f = lambda x: 'wrong'
        """,
        FAILED,
        harm="ends",
    ),
    in_tests(
        "a_method_as_entry", "class A:\n    def g(self, x): return 'escaped'\nf = A().g", PASSED
    ),
    in_tests(
        "a_class_as_entry", "class f:\n    def __new__(cls, x): return 'wrong'", FAILED, harm="ends"
    ),
    in_tests(
        "odd_names",
        """
        globals().update({'a b': len, 'class': len, '__builtins__x': len, '': len, 'print(1)': len, '__name__': len, '\\ud800': len})
        def f(x): return 'wrong'
        """,
        FAILED,
        harm="ends",
    ),
    in_tests(
        "many_callables",
        "globals().update({f'g{i}': len for i in range(100_000)})\ndef f(x): return 'wrong'",
        FAILED,
        OUTPUT_LIMIT,
        CRASHED,
        harm="ends",
        why="their names do not fit in one frame, or are cut",
    ),
)
