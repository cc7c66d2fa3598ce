import math
import sys
from typing import Any

import pytest

from reward_workers.sandbox.harness.values import decode, encode


def loaded(serve: Any, code: str, entry: str = "f", **job: Any) -> Any:
    supervisor = serve(mode="calls", code=code, entry=entry, **job)
    assert "loaded" in supervisor.hear()
    return supervisor


def error_at_load(serve: Any, code: str, entry: str = "f") -> dict[str, Any]:
    return serve(mode="calls", code=code, entry=entry).hear()["error"]


def test_an_honest_function_is_called_case_by_case(serve: Any):
    worker = loaded(serve, "def f(a, b=1):\n    return a + b")
    assert worker.call("f", 2, 3) == {"value": 5}
    assert worker.call("f", [1], [2]) == {"value": [1, 2]}
    assert worker.call("f", 1, b=2**60) == {"value": {"int": hex(2**60 + 1)}}
    assert worker.call("f", 1.0) == {"value": 2.0}


def test_callables_that_the_code_defines_are_told(serve: Any):
    code = """
import math
from collections import Counter
from functools import lru_cache
from typing import List
@lru_cache
def f(x): return x
def g(x): return x
class C: pass
h = lambda: 0
_private = lambda: 0
number = 3
"""
    answer = serve(mode="calls", code=code, entry="f").hear()
    assert answer == {"loaded": ["f", "g", "C", "h"]}


def test_a_method_is_called_on_a_new_instance_each_time(serve: Any):
    code = """
class Solution:
    def __init__(self): self.calls = 0
    def count(self, n: int) -> int:
        self.calls += 1
        return n + self.calls
"""
    worker = loaded(serve, code, "Solution.count")
    assert worker.call("Solution.count", 10) == {"value": 11}
    assert worker.call("Solution.count", 10) == {"value": 11}


def test_arguments_changed_in_place_are_told_and_others_are_not(serve: Any):
    worker = loaded(serve, "def f(xs, key=None):\n    xs.sort(key=key)\ndef g(xs): return len(xs)")
    assert worker.call("f", [3, 1, 2]) == {"value": None, "args": [[1, 2, 3]]}
    assert worker.call("f", [1, 2, 3]) == {"value": None}
    assert worker.call("g", [3, 1]) == {"value": 2}
    # 1 becomes True: equal in Python, but not the same value
    worker = loaded(serve, "def f(xs): xs[0] = True")
    assert worker.call("f", [1]) == {"value": None, "args": [[True]]}
    worker = loaded(serve, "def f(xs): xs.clear(); return xs")
    assert worker.call("f", [1]) == {"value": []}


def test_code_may_take_the_names_that_the_harness_uses(serve: Any):
    code = """
import dataclasses, pickle, typing
def print(*args): pass
class list: pass
json = type = len = isinstance = encode = send = None
@dataclasses.dataclass
class Point:
    x: "int"
def f(x):
    point = pickle.loads(pickle.dumps(Point(x)))
    assert typing.get_type_hints(Point) == {"x": int}
    return [point.x]
"""
    assert loaded(serve, code).call("f", 4) == {"value": [4]}


def test_a_main_guard_is_not_run(serve: Any):
    code = "def f(): return 1\nif __name__ == '__main__':\n    raise SystemExit"
    assert loaded(serve, code).call("f") == {"value": 1}


def test_an_async_function_is_run_to_its_end(serve: Any):
    code = "import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    return x + 1"
    assert loaded(serve, code).call("f", 1) == {"value": 2}
    assert loaded(serve, code, handles=True).call("f", 1) == {"value": 2, "form": "coroutine"}


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("def f(:", "SyntaxError"),
        ("x = '\ud800'", "UnicodeEncodeError"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit(0)", "SystemExit"),
        ("import sys; sys.exit()", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise MemoryError", "MemoryError"),
        ("def g(): pass", "NameError"),
        ("f = 3", "TypeError"),
        ("import nothing_of_that_name", "ModuleNotFoundError"),
    ],
)
def test_code_that_cannot_be_loaded_is_an_error_with_its_type(serve: Any, code: str, kind: str):
    error = error_at_load(serve, code)
    assert (error["type"], error["where"]) == (kind, "load")


def test_a_missing_method_is_an_error_at_load(serve: Any):
    error = error_at_load(serve, "class Solution: pass", "Solution.add")
    assert (error["type"], error["where"]) == ("AttributeError", "load")


def test_an_exception_in_a_call_is_told_and_the_next_call_is_answered(serve: Any):
    worker = loaded(serve, "import sys\ndef f(x):\n    if x: sys.exit(0)\n    return 1 // x")
    assert worker.call("f", 0)["error"]["type"] == "ZeroDivisionError"
    assert worker.call("f", 1)["error"] == {"type": "SystemExit", "message": "0", "where": "call"}
    worker = loaded(serve, "def f(n): return f(n + 1)")
    assert worker.call("f", 0)["error"]["type"] == "RecursionError"
    worker = loaded(serve, "def f(n): return [0] * n\ndef g(): return 1")
    assert worker.call("f", 2**50)["error"]["type"] == "MemoryError"
    assert worker.call("g") == {"value": 1}


def test_hostile_exceptions_are_told_in_other_words(serve: Any):
    code = """
class Meta(type):
    @property
    def __name__(cls): raise RuntimeError
class Hostile(Exception, metaclass=Meta):
    def __str__(self): raise SystemExit
class Text(str):
    def __getitem__(self, key): raise RuntimeError
    encode = __getitem__
class Odd(BaseException):
    def __str__(self): return Text("ab\\ud800" + "x" * 1000)
def f(x): raise (Hostile if x else Odd)
"""
    worker = loaded(serve, code)
    error = worker.call("f", 1)["error"]
    assert error == {
        "type": "Hostile",
        "message": "its message cannot be shown",
        "where": "call",
    }
    assert worker.call("f", 0)["error"]["message"] == "ab?" + "x" * 497


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("type('Agreeing', (), {'__eq__': lambda s, o: True})()", "Agreeing"),
        ("type('Int', (int,), {'__eq__': lambda s, o: True})(3)", "Int"),
        ("[type('List', (list,), {})()]", "List"),
        ("(x for x in 'ab')", "generator"),
        ("range(3)", "range"),
        ("{}.keys()", "dict_keys"),
        ("map(len, [])", "map"),
        ("len", "builtin_function_or_method"),
    ],
)
def test_values_that_are_not_plain_are_refused(serve: Any, body: str, kind: str):
    error = loaded(serve, f"def f(): return {body}").call("f")["error"]
    assert (error["type"], error["where"]) == ("NotPlain", "result")
    assert f"a {kind} is not a plain value" in error["message"]


@pytest.mark.parametrize(
    "body", ["'x' * (1 << 20)", "[0] * (1 << 20)", "(lambda a: [a] * 1000)(['x' * 1000] * 1000)"]
)
def test_a_value_over_one_mebibyte_is_an_output_limit(serve: Any, body: str):
    error = loaded(serve, f"def f(): return {body}").call("f")["error"]
    assert (error["type"], error["where"]) == ("OutputLimit", "result")


def test_large_arguments_come_in_and_need_not_go_out(serve: Any):
    worker = loaded(serve, "def f(xs):\n    xs.sort()\n    return len(xs)")
    assert worker.call("f", list(range(300_000, 0, -1))) == {"value": 300_000}


def test_odd_values_survive_the_way_there_and_back(serve: Any):
    worker = loaded(serve, "def f(x): return x")
    for value in ("\ud83d\ude00\ud800", -(10**5000), math.inf, {(1, b"\xff"): {None, 2.5}}, "\x00"):
        assert decode(worker.call("f", value)["value"]) == value
    assert math.isnan(decode(worker.call("f", math.nan)["value"]))


def test_an_object_stays_with_the_candidate_and_goes_by_its_handle(serve: Any):
    code = """
class Stack:
    def __init__(self, *items): self.items = list(items)
    def __eq__(self, other): return True
    def push(self, item): self.items.append(item)
    def copy(self): return self
def first(stacks): return stacks[0].items[0]
"""
    worker = loaded(serve, code, "Stack", handles=True)
    assert worker.call("Stack", 5) == {"value": {"handle": [0, "Stack"]}}
    method = worker.ask({"attribute": "push", "of": 0, "id": 1})
    assert method == {"value": {"handle": [1, "method"]}, "id": 1}
    push = {"call": 1, "args": [6], "kwargs": encode({}), "id": 2}
    assert worker.ask(push) == {"value": None, "id": 2}
    assert worker.ask({"attribute": "items", "of": 0, "id": 3}) == {"value": [5, 6], "id": 3}
    assign = {"assign": "items", "of": 0, "value": [9], "id": 4}
    assert worker.ask(assign) == {"value": None, "id": 4}
    by_handle = {"call": "first", "args": [[{"handle": [0, "Stack"]}]], "kwargs": encode({})}
    assert worker.ask({**by_handle, "id": 5}) == {"value": 9, "id": 5}
    gone = worker.ask({"attribute": "nothing", "of": 0, "id": 6})
    assert gone["error"]["type"] == "AttributeError"
    unknown = worker.ask({"attribute": "items", "of": 99, "id": 7})
    assert unknown["error"]["type"] == "IndexError"


def test_handles_are_counted(serve: Any):
    code = "class C: pass\ndef f(n): return [C() for _ in range(n)]"
    worker = loaded(serve, code, handles=True)
    assert "value" in worker.call("f", 10_000)
    assert worker.call("f", 1)["error"]["type"] == "NotPlain"


@pytest.mark.parametrize(
    ("body", "items"),
    [
        ("(x * x for x in range(3))", [0, 1, 4]),
        ("map(str, [1, 2])", ["1", "2"]),
        ("zip('ab', [1, 2])", [{"tuple": ["a", 1]}, {"tuple": ["b", 2]}]),
        ("range(2)", [0, 1]),
        ("{'a': 1}.keys()", ["a"]),
        ("__import__('itertools').chain([1], [2])", [1, 2]),
    ],
)
def test_an_iterator_is_drained_for_the_tester(serve: Any, body: str, items: list[Any]):
    worker = loaded(serve, f"def f(): return {body}", handles=True)
    assert worker.call("f") == {"value": items, "form": "iterator"}


def test_an_endless_iterator_is_cut(serve: Any):
    code = """
import itertools
def f(): return itertools.repeat(1)
def fibonacci():
    a, b = 0, 1
    while True:
        yield a
        a, b = b, a + b
"""
    worker = loaded(serve, code, handles=True)
    answer = worker.call("f")
    assert (answer["form"], answer["value"]) == ("endless", [1] * 100_000)
    answer = worker.call("fibonacci")
    assert (answer["form"], decode(answer["value"])[100]) == ("endless", 354224848179261915075)


def test_the_module_is_found_by_its_name(serve: Any):
    loaded(serve, "def f(): pass")
    assert sys.modules["candidate"].__name__ == "candidate"
