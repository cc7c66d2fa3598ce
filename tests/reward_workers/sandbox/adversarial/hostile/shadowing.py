"""Programs that name their own functions like a builtin, or like a helper of the tests."""
# ruff: noqa: E501 - the lines of programs are data

from hostile.program import FAILED, in_tests


def _shadows(name: str, definition: str):
    """A top-level callable named like a builtin, beside a wrong answer."""
    code = f"{definition}\ndef f(x): return 1.5\n"
    return in_tests(
        f"shadows_{name}", code, FAILED, tests=f"def check(candidate):\n    assert {_NEEDS[name]}"
    )


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
    _shadows("abs", "def abs(x): return 0"),
    _shadows("len", "def len(x): return 3"),
    _shadows("all", "def all(x): return True"),
    _shadows("any", "def any(x): return True"),
    _shadows("isinstance", "def isinstance(a, b): return True"),
    _shadows("round", "def round(*a): return 4.5"),
    _shadows("sorted", "def sorted(*a, **k): return [0, 4.5]"),
    _shadows("sum", "def sum(*a): return 4.5"),
    _shadows("min", "def min(*a): return 4.5"),
    _shadows("set", "def set(*a): return {4.5}"),
    _shadows("list", "def list(*a): return [4.5]"),
    _shadows("str", "def str(*a): return '4.5'"),
    _shadows("float", "def float(*a): return 1.5"),
    _shadows(
        "type",
        "def type(*a): return __builtins__['str'] if isinstance(__builtins__, dict) else __builtins__.str",
    ),
    _shadows("map", "def map(*a): return [4.5]"),
    _shadows("zip", "def zip(*a): return []"),
    _shadows("range", "def range(*a): return []"),
    in_tests(
        "shadows_the_check",
        "def check(candidate): pass\ndef f(x): return 'wrong'",
        FAILED,
        tests="def check(candidate):\n    assert candidate(1) == 2",
        harm="ends",
    ),
    in_tests(
        "shadows_a_helper_of_the_tests",
        "def same(a, b): return True\ndef f(x): return 'wrong'",
        FAILED,
        tests="""
        def same(a, b): return a == b
        def check(candidate):
            assert same(candidate(1), 2)
        """,
        harm="ends",
    ),
    in_tests(
        "shadows_a_module",
        "class math:\n    isclose = staticmethod(lambda *a, **k: True)\ndef f(x): return 1.5",
        FAILED,
        tests=("import math\nassert math.isclose(f(9), 4.5)",),
        harm="ends",
    ),
    in_tests(
        "redefines_a_helper_of_the_prompt",
        "def poly(xs, x): return 0\ndef f(xs): return 0",
        FAILED,
        support="def poly(xs, x): return sum(c * x ** i for i, c in enumerate(xs))\n",
        tests="def check(candidate):\n    assert abs(poly([1, 2], candidate([1, 2]))) < 1e-4",
    ),
    in_tests(
        "helper_of_the_prompt_by_lambda",
        "poly = lambda *a: 0\nf = lambda xs: 0",
        FAILED,
        support="def poly(xs, x): return sum(c * x ** i for i, c in enumerate(xs))\n",
        tests="def check(candidate):\n    assert abs(poly([1, 2], candidate([1, 2]))) < 1e-4",
    ),
    in_tests(
        "encodes_for_itself",
        "def encode(s): return 'x'\ndef decode(s): return 'hello'\nf = decode",
        FAILED,
        support="def encode(s): return s[::-1]\n",
        tests="""
        def check(candidate):
            assert encode('hello') != 'x' and candidate(encode('hello')) == 'hello' and candidate(encode('other')) == 'other'
        """,
        harm="ends",
    ),
)
