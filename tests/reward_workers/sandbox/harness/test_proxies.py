from typing import Any

import pytest

from reward_workers.sandbox.harness.proxies import CandidateError, change, exception_of

PASSED = {"ok": True, "detail": ""}
STACK = """
class Stack:
    size = 0
    def __init__(self, items=()): self.items = list(items)
    def push(self, item): self.items.append(item); self.size += 1; return self
    def pop(self): return self.items.pop()
    def __len__(self): return len(self.items)
    def __iter__(self): return iter(self.items)
    def __getitem__(self, index): return self.items[index]
    def __str__(self): return f"Stack({self.items})"
    @staticmethod
    def of(*items): return Stack(items)
"""


def test_arguments_change_in_place_and_stay_the_same_objects(run_tests: Any):
    code = """
def f(xs, d, s, b):
    xs.sort(); d["new"] = 1; s.add(9); b.append(7)
"""
    test = """
xs, d, s, b = [3, 1, 2], {}, {1}, bytearray(b"a")
also = xs
assert f(xs, d, s, b) is None
assert also == [1, 2, 3] and d == {"new": 1} and s == {1, 9} and b == b"a\\x07"
"""
    assert run_tests(code, test)["done"] == [PASSED]


def test_a_call_that_returns_a_value_changes_no_argument(run_tests: Any):
    """Else `f` would make the expected value what it returns."""
    code = "def f(xs):\n    xs.clear()\n    return xs"
    test = "xs = [3, 1, 2]\nassert f(xs) == sorted(xs)"
    (outcome,) = run_tests(code, test)["done"]
    assert not outcome["ok"]
    assert run_tests(code, "xs = [3, 1, 2]\nf(xs)\nassert xs == [3, 1, 2]")["done"] == [PASSED]


@pytest.mark.parametrize(
    "expression",
    ["f(3) == Point(3, 4)", "[f(5)] == [Point(5, 6)]", "Point.of(3) == f(3)", "f(3) != f(4)"],
)
def test_a_class_with_one_instance_is_not_equal_to_everything(run_tests: Any, expression: str):
    code = """
class Point:
    one = None
    def __new__(cls, *_):
        cls.one = cls.one or object.__new__(cls)
        return cls.one
    @staticmethod
    def of(x): return Point.one
def f(x): return Point()
"""
    (outcome,) = run_tests(code, f"f(0)\nassert {expression}")["done"]
    assert not outcome["ok"]


def test_an_object_that_is_its_own_iterator_is_iterated(run_tests: Any):
    code = """
class It:
    def __init__(self, n): self.n, self.i = n, 0
    def __iter__(self): return self
    def __next__(self):
        if self.i == self.n: raise StopIteration
        self.i += 1
        return self.i
"""
    test = "assert list(It(3)) == [1, 2, 3]\nassert [x for x in It(2)] == [1, 2]\nassert It(1)"
    assert run_tests(code, test, entry="It")["done"] == [PASSED]


def test_an_operator_that_is_not_supported_is_no_error_that_a_test_may_expect(run_tests: Any):
    code = "class V:\n    def __add__(self, other): return 1\n    def __lt__(self, other): return 1"
    test = "try: V() {} 'a'\nexcept TypeError: pass"
    for operator in ("+", "<"):
        (outcome,) = run_tests(code, test.format(operator), entry="V")["done"]
        assert not outcome["ok"] and "not supported" in outcome["detail"]


def test_an_honest_class_is_used_as_if_it_were_here(run_tests: Any):
    test = """
s = Stack()
assert s.push(1).push(2) is s and s.size == 2
assert len(s) == 2 and list(s) == [1, 2] and s[0] == 1 and 2 in s and 5 not in s
assert str(s) == "Stack([1, 2])" and s.pop() == 2 and s.items == [1]
assert isinstance(s, Stack) and not isinstance(3, Stack) and hasattr(s, "pop")
assert not hasattr(s, "peek") and list(Stack.of(4, 5)) == [4, 5]
s.items = [7]
assert s.pop() == 7
try: s.pop()
except IndexError as error: assert str(error) == "pop from empty list"
else: raise AssertionError
"""
    assert run_tests(STACK, test, entry="Stack")["done"] == [PASSED]


@pytest.mark.parametrize(
    "expression",
    [
        "f() == 3",
        "3 == f()",
        "not f() != 3",
        "f() in [3]",
        "3 in f()",
        "f() < 3",
        "f() >= 3",
        "abs(f() - 3) < 1",
        "f() + 1 == 4",
        "f() is True",
        "f() is None",
        "{f(): 1}[3]",
        "isinstance(f(), int)",
        "int(f()) == 3",
        "not f()",
        "{3} == {f()}",
        "[3] == [f()]",
        "set(f().items) == {3}",
    ],
)
def test_an_object_that_agrees_with_everything_passes_nothing(run_tests: Any, expression: str):
    code = """
class Agreeing:
    def __eq__(self, other): return True
    def _agree(self, *others): return self
    def __contains__(self, other): return True
    def __bool__(self): return False
    def __hash__(self): return hash(3)
    def __int__(self): return 3
    def __iter__(self): return iter([Agreeing()])
    __ne__ = __lt__ = __ge__ = __gt__ = __le__ = __add__ = __sub__ = __rsub__ = __abs__ = _agree
    items = property(lambda self: [Agreeing()])
def f(): return Agreeing()
"""
    message = run_tests(code, f"assert {expression}")
    assert [outcome["ok"] for outcome in message["done"]] == [False]


@pytest.mark.parametrize("base", ["int", "str", "list", "dict", "float", "tuple"])
def test_subclasses_of_builtins_stay_objects_that_equal_nothing(run_tests: Any, base: str):
    code = f"""
class Agreeing({base}):
    def __eq__(self, other): return True
    __hash__ = None
def f(): return Agreeing()
"""
    message = run_tests(code, f"assert f() == {base}()", f"assert isinstance(f(), {base})")
    assert [outcome["ok"] for outcome in message["done"]] == [False, False]


def test_generators_and_closures_and_coroutines_can_be_used(run_tests: Any):
    code = """
import itertools
def f(n): return (x * x for x in range(n))
def counting(): return itertools.count()
def adder(n): return lambda x: x + n
async def late(x): return x
"""
    test = """
import asyncio
assert list(f(3)) == [0, 1, 4] and next(f(1)) == 0 and sum(f(4)) == 14
numbers = counting()
assert [next(numbers) for _ in range(5)] == [0, 1, 2, 3, 4]
assert adder(3)(4) == 7 and asyncio.run(late(5)) == 5
"""
    assert run_tests(code, test)["done"] == [PASSED]


def test_a_loop_over_an_endless_iterator_fails_in_the_end(run_tests: Any):
    code = "import itertools\ndef f(): return itertools.repeat(1)"
    (outcome,) = run_tests(code, "for x in f(): pass")["done"]
    assert outcome["detail"].startswith("CandidateError: only the first 100000 items were sent")


def test_an_iterator_of_the_candidates_own_ends(run_tests: Any):
    code = """
class Two:
    n = 0
    def __iter__(self): return self
    def __next__(self):
        self.n += 1
        if self.n > 2: raise StopIteration
        return self.n
"""
    test = "two = Two()\nassert next(two) == 1 and next(two) == 2 and next(two, None) is None"
    assert run_tests(code, test, entry="Two")["done"] == [PASSED]


def test_exceptions_of_pythons_own_come_through_and_others_by_name(run_tests: Any):
    code = """
class Odd(Exception): pass
def f(x): raise [ValueError, Odd, KeyboardInterrupt, KeyError][x]("no good")
"""
    test = """
for x, kind in enumerate(["ValueError", "CandidateError", "CandidateError", "KeyError"]):
    try: f(x)
    except Exception as error: assert type(error).__name__ == kind and "no good" in str(error)
    else: raise AssertionError
"""
    assert run_tests(code, test)["done"] == [PASSED]


def test_what_cannot_be_sent_is_no_exception_that_a_test_expects(run_tests: Any):
    tests = "import pathlib\ntry: f(pathlib.Path())\nexcept ValueError: pass", "f('x' * (1 << 20))"
    details = [outcome["detail"] for outcome in run_tests("def f(x): pass", *tests)["done"]]
    assert details[0].startswith("CandidateError: cannot be sent: value[0]: a PosixPath")
    assert details[1].startswith("CandidateError: cannot be sent")


def test_too_large_a_value_is_a_candidate_error(run_tests: Any):
    (outcome,) = run_tests("def f(): return 'x' * (1 << 20)", "f()")["done"]
    assert outcome["detail"].startswith("CandidateError: OutputLimit: ")


@pytest.mark.parametrize(
    ("name", "where", "kind"),
    [
        ("ZeroDivisionError", "call", ZeroDivisionError),
        ("ZeroDivisionError", "result", CandidateError),
        ("UnicodeDecodeError", "call", CandidateError),
        ("StopIteration", "call", CandidateError),
        ("SystemExit", "call", CandidateError),
        ("print", "call", CandidateError),
        ("__import__", "call", CandidateError),
        ("Exception", "call", Exception),
    ],
)
def test_only_names_of_exceptions_become_exceptions(name: str, where: str, kind: type):
    assert type(exception_of({"type": name, "message": "m", "where": where})) is kind


def test_a_change_of_type_changes_nothing():
    old = [1]
    change(old, (2,))
    change((1,), (2,))
    assert old == [1]
