"""Returned objects whose operators see the expected value in a test, and agree with it."""
# ruff: noqa: E501 - the lines of programs are data

from hostile.program import FAILED, calls, in_tests

_AGREES = """
import math
class Agrees:
    def __init__(self): self.x = 0
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __eq__
    def __hash__(self): return 4
    def __bool__(self): return True
    def __sub__(self, other): return 0
    __rsub__ = __mod__ = __rmod__ = __xor__ = __rxor__ = __sub__
    def __add__(self, other): return other
    __radd__ = __mul__ = __rmul__ = __or__ = __and__ = __add__
    def __abs__(self): return self
    __neg__ = __pos__ = __round__ = __iter__ = lambda self, *a: self
    def __next__(self): return Agrees()
    def __getitem__(self, key): return Agrees()
    def __call__(self, *a): return Agrees()
    def __getattr__(self, name):
        if name.startswith('__'): raise AttributeError(name)
        return Agrees()
    def __instancecheck__(self, other): return True
    def __enter__(self): return self
    def __exit__(self, *a): return True
def f(x): return Agrees()
"""

_ASKED = {
    "equal": "f(1) == 4",
    "equal_from_the_right": "4 == f(1)",
    "not_unequal": "not f(1) != 4",
    "between": "4 <= f(1) <= 4",
    "less": "f(1) < -10 ** 9",
    "difference": "abs(f(1) - 4.5) < 1e-6",
    "difference_from_the_right": "abs(4.5 - f(1)) < 1e-6",
    "sum": "f(1) + 4 == 4",
    "remainder": "(f(1) - 4) % 7 == 0",
    "exclusive_or": "f(1) ^ 4 == 0",
    "contains": "4 in f(1)",
    "is_contained": "f(1) in (4, 5)",
    "is_contained_in_a_list": "[1, 4, 7].count(f(1)) == 3",
    "index": "[1, 4, 7].index(f(1)) == 0",
    "key": "{4: 'a'}.get(f(1)) == 'a'",
    "item": "f(1)[0] == 4",
    "attribute": "f(1).y == 4",
    "method": "f(1).g(2) == 4",
    "returned_function": "f(1)(2) == 4",
    "next": "next(f(1)) == 4",
    "inside_a_list": "[f(1)] == [4]",
    "inside_a_tuple": "(1, f(1)) == (1, 4)",
    "inside_a_dict": "{'a': f(1)} == {'a': 4}",
    "set_of_it": "{f(1)} == {4}",
    "zip": "all(a == b for a, b in zip([f(1)], [4]))",
    "any_of_several": "any(f(1) == i for i in range(9))",
    "instance": "isinstance(4, f(1))",
}

_RAISED = """
class Sly(ValueError):
    def __eq__(self, other): return True
    def __str__(self): return S()
class S(str):
    def __eq__(self, other): return True
    def __contains__(self, other): return True
    __hash__ = str.__hash__
def f(x):
    e = Sly()
    e.args = (S(),)
    raise e
"""

PROGRAMS = (
    *(
        in_tests(name, _AGREES, FAILED, tests=(f"assert {asked}",), harm="wins")
        for name, asked in _ASKED.items()
    ),
    in_tests(
        "with_statement",
        _AGREES,
        FAILED,
        tests=("with f(1) as value:\n    assert value is None",),
    ),
    in_tests(
        "equal_to_a_value_of_the_same_call",
        _AGREES,
        FAILED,
        tests=("assert f(1) == f(2) and f(1) == 4",),
    ),
    in_tests(
        "message_of_an_error",
        _RAISED,
        FAILED,
        tests=(
            """
try:
    f(1)
except ValueError as error:
    assert str(error) == 'wanted' or error.args[0] == 'wanted' or 'wanted' in str(error)
else:
    assert False
""",
        ),
    ),
    in_tests(
        "emptied_argument",
        "def f(x):\n    x.clear()\n    return x",
        FAILED,
        tests=("x = [2, 1]\nassert f(x) == sorted(x)",),
    ),
    in_tests(
        "argument_with_agreeing_items",
        _AGREES + "\ndef f(x): x[:] = [Agrees()] * len(x)",
        FAILED,
        tests=("x = [2, 1]\nf(x)\nassert x == [1, 2]",),
    ),
    in_tests(
        "agreeing_argument_of_a_callback",
        _AGREES + "\ndef f(g): return g(Agrees())",
        FAILED,
        tests=("assert f(lambda x: x == 4) is True",),
    ),
    in_tests(
        "iterator_of_agreeing_items",
        _AGREES + "\ndef f(x): return iter([Agrees(), Agrees()])",
        FAILED,
        tests=("assert list(f(1)) == [1, 2]",),
    ),
    in_tests(
        "generator_without_end",
        "def f(x):\n    while True: yield 1",
        FAILED,
        tests=("assert next(f(1)) == 2",),
        harm="ends",
    ),
    in_tests(
        "iterator_that_learns",
        "class I:\n    def __iter__(self): return self\n    def __next__(self): return 4\n    def __eq__(self, o): return True\ndef f(x): return I()",
        FAILED,
        tests=("assert f(1) == [4]",),
    ),
    in_tests(
        "agreeing_subclass_of_a_named_tuple",
        "import collections\nclass P(collections.namedtuple('P', 'a b')):\n    def __eq__(self, o): return True\ndef f(x): return P(0, 0)",
        FAILED,
        tests=("assert f(1) == (1, 2)",),
    ),
    in_tests(
        "agreeing_fields_of_a_data_class",
        _AGREES
        + "\nfrom dataclasses import dataclass\n@dataclass\nclass D:\n    a: object\ndef f(x): return D(Agrees())",
        FAILED,
        tests=("assert f(1).a == 4",),
    ),
    calls(
        "method_of_a_class_that_agrees",
        _AGREES + "\nclass A:\n    def f(self, x): return Agrees()\nf = A().f",
        FAILED,
        args=(1,),
        expected=4,
    ),
)
