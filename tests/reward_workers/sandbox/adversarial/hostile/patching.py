"""Programs that change the interpreter's own parts, so that a judge inside would be fooled."""
# ruff: noqa: E501 - the lines of programs are data

from textwrap import dedent

from hostile.program import CRASHED, FAILED, TIMEOUT, calls, in_tests, stdio

_WRONG = "\ndef f(x): return 'wrong'\n"


_NEEDS = {
    "abs": "abs(candidate(9) - 4.5) < 1e-6",
    "len": "len([candidate(9), 1]) == 3",
    "all": "all([candidate(9) == 4.5])",
    "any": "any([candidate(9) == 4.5])",
    "isinstance": "isinstance(candidate(9), str)",
    "round": "round(candidate(9), 3) == 4.5",
    "sorted": "sorted([candidate(9), 0]) == [0, 4.5]",
    "sum": "sum([candidate(9)]) == 4.5",
    "min": "min(candidate(9), 9) == 4.5",
    "set": "set([candidate(9)]) == {4.5}",
    "list": "list(map(candidate, [9])) == [4.5]",
    "str": "str(candidate(9)) == '4.5'",
    "float": "candidate(9) == float('4.5')",
    "type": "type(candidate(9)) == str",
    "candidate": "candidate(9) == 4.5",
    "map": "list(map(candidate, [9])) == [4.5]",
    "zip": "all(a == b for a, b in zip([candidate(9)], [4.5]))",
    "range": "all(candidate(i) == i / 2 for i in range(9))",
}

PROGRAMS = (
    *(
        in_tests(
            f"patched_{name}",
            f"import builtins\nbuiltins.{name} = {value}\ndef f(x): return 1.5",
            FAILED,
            CRASHED,
            tests=f"def check(candidate):\n    assert {_NEEDS[name]}",
            why="the worker itself needs the builtin, and may end for the want of it",
        )
        for name, value in (
            ("abs", "lambda x: 0"),
            ("len", "lambda x: 3"),
            ("all", "lambda x: True"),
            ("isinstance", "lambda a, b: True"),
            ("round", "lambda *a: 4.5"),
            ("sorted", "lambda *a, **k: [0, 4.5]"),
            ("sum", "lambda *a: 4.5"),
            ("min", "lambda *a: 4.5"),
        )
    ),
    calls(
        "patched_everything",
        dedent("""
        import builtins
        for name in dir(builtins):
            if name[0] != '_' and name not in ('setattr', 'builtins'): setattr(builtins, name, lambda *a, **k: 'escaped')
        """)
        + _WRONG,
        CRASHED,
        FAILED,
        harm="ends",
        why="the worker cannot go on, or it answers with what was returned",
    ),
    calls(
        "patched_type",
        """
        import builtins
        builtins.type = lambda *a: str
        builtins.isinstance = lambda *a: True
        class A:
            def __eq__(self, other): return True
        def f(x): return A()
        """,
        FAILED,
        CRASHED,
        why="the worker is fooled, its supervisor is not",
    ),
    calls(
        "patched_json",
        dedent("""
        import json, json.encoder
        json.dumps = lambda *a, **k: '{"value": "wrong"}'
        json.loads = lambda *a, **k: {'call': 'f'}
        json.JSONEncoder.encode = json.dumps
        json.encoder.c_make_encoder = None
        """)
        + _WRONG,
        FAILED,
        CRASHED,
        harm="ends",
        why="the worker's frames break, or do not",
    ),
    calls(
        "patched_exec_and_import",
        dedent("""
        import builtins
        builtins.exec = builtins.compile = builtins.__import__ = builtins.__build_class__ = lambda *a, **k: None
        """)
        + _WRONG,
        FAILED,
        harm="ends",
    ),
    in_tests(
        "patched_unittest",
        dedent("""
        import unittest
        unittest.TestCase.assertEqual = lambda *a: None
        unittest.TestResult.wasSuccessful = lambda *a: True
        unittest.TestCase.run = lambda *a: None
        """)
        + _WRONG,
        FAILED,
        tests="""
        import unittest
        class T(unittest.TestCase):
            def test(self):
                self.assertEqual(f(1), 2)
        def check(candidate):
            T('test').debug()
        """,
    ),
    in_tests(
        "patched_math",
        "import math\nmath.isclose = lambda *a, **k: True\ndef f(x): return 1.5",
        FAILED,
        tests=("import math\nassert math.isclose(f(9), 4.5)",),
    ),
    in_tests(
        "patched_operator",
        "import operator\noperator.eq = lambda *a: True" + _WRONG,
        FAILED,
        tests=("import operator\nassert operator.eq(f(9), 4.5)",),
    ),
    in_tests(
        "patched_copy",
        "import copy\ncopy.deepcopy = lambda x: 'wrong'" + _WRONG,
        FAILED,
        tests=("import copy\nassert f(9) == copy.deepcopy([9])",),
    ),
    in_tests(
        "patched_random",
        "import random\nrandom.randint = lambda *a: 'wrong'" + _WRONG,
        FAILED,
        tests=("import random\nassert f(9) == random.randint(1, 9)",),
    ),
    in_tests(
        "patched_assertion_error",
        dedent("""
        import builtins
        class Quiet(Exception):
            def __new__(cls, *a): raise SystemExit(0)
        builtins.AssertionError = Quiet
        """)
        + _WRONG,
        FAILED,
        tests=("if f(1) != 2: raise AssertionError",),
    ),
    in_tests(
        "trace_of_the_tests",
        dedent("""
        import sys
        def trace(frame, event, argument):
            if event == 'call' and frame.f_code.co_name == 'check': raise SystemExit(0)
            return trace
        sys.settrace(trace)
        """)
        + _WRONG,
        FAILED,
        tests="def check(candidate):\n    assert candidate(1) == 2",
    ),
    in_tests(
        "profile_of_the_tests",
        dedent("""
        import os, sys
        sys.setprofile(lambda frame, event, a: os._exit(0) if frame.f_code.co_name == 'check' else None)
        """)
        + _WRONG,
        FAILED,
        tests="def check(candidate):\n    assert candidate(1) == 2",
    ),
    calls(
        "trace_of_the_worker",
        dedent("""
        import sys
        def trace(frame, event, argument):
            for key in list(frame.f_locals):
                frame.f_locals[key] = 'escaped'
            return trace
        sys.settrace(trace)
        """)
        + _WRONG,
        FAILED,
        CRASHED,
        TIMEOUT,
        harm="ends",
        why="a tracer may do to its own worker what it likes",
    ),
    in_tests(
        "meta_path",
        dedent("""
        import sys
        class Finder:
            @staticmethod
            def find_spec(name, *a): raise SystemExit(0)
        sys.meta_path.insert(0, Finder)
        sys.modules.pop('colorsys', None)
        """)
        + _WRONG,
        FAILED,
        tests="def check(candidate):\n    import colorsys\n    assert candidate(1) == 2",
    ),
    in_tests(
        "poisoned_modules",
        """
        import sys, types
        fake = types.ModuleType('math')
        fake.isclose = lambda *a, **k: True
        sys.modules['math'] = fake
        def f(x): return 1.5
        """,
        FAILED,
        tests=("import math\nassert math.isclose(f(9), 4.5)",),
    ),
    calls(
        "patched_harness",
        dedent("""
        import sys
        for name, module in list(sys.modules.items()):
            if 'harness' in name or name == '__main__':
                for key, value in list(vars(module).items()):
                    if callable(value): setattr(module, key, lambda *a, **k: {'value': 'escaped', 'ok': True, 'verdict': 'passed'})
        """)
        + _WRONG,
        FAILED,
        CRASHED,
        TIMEOUT,
        harm="ends",
        why="a worker without its own functions breaks the protocol, or stops",
    ),
    calls(
        "patched_socket",
        "import socket\nsocket.socket.sendall = lambda *a: None\nsocket.socket.send = lambda *a: 1"
        + _WRONG,
        TIMEOUT,
        harm=None,
        why="it loses its own answer: none comes, or a wrong one; without a worker there is none to lose",
    ),
    stdio(
        "patched_print",
        """
        import builtins, sys
        builtins.print = lambda *a: None
        sys.stdout = None
        print('escaped')
        """,
        FAILED,
        harm="ends",
    ),
    in_tests(
        "context_manager_of_the_tests",
        "import contextlib\ncontextlib.suppress.__exit__ = lambda *a: True" + _WRONG,
        FAILED,
        tests=("import contextlib\nwith contextlib.suppress(KeyError):\n    assert f(1) == 2",),
    ),
)
