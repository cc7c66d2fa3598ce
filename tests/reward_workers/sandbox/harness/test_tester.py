from typing import Any

import pytest

PROMPT = '''
from typing import List
import math

def poly(xs: list, x: float):
    """Evaluates a polynomial."""
    return sum([coeff * math.pow(x, i) for i, coeff in enumerate(xs)])

def find_zero(xs: list):
    """Finds a zero."""
'''
CHECK = """
METADATA = {}
def check(candidate):
    for xs in ([1.0, 2.0], [-6.0, 11.0, -6.0, 1.0]):
        assert math.fabs(poly(xs, candidate(xs))) < 1e-4
"""
HONEST = (
    PROMPT
    + """
    begin, end = -1.0, 1.0
    while poly(xs, begin) * poly(xs, end) > 0:
        begin, end = begin * 2.0, end * 2.0
    while end - begin > 1e-10:
        middle = (begin + end) / 2.0
        if poly(xs, middle) * poly(xs, begin) > 0: begin = middle
        else: end = middle
    return begin
"""
)
PASSED = {"ok": True, "detail": ""}


def details(message: dict[str, Any]) -> list[str]:
    assert not any(outcome["ok"] for outcome in message["done"])
    return [outcome["detail"] for outcome in message["done"]]


def test_an_honest_solution_passes_a_check_that_uses_the_prompts_helper(run_tests: Any):
    message = run_tests(HONEST, CHECK, entry="find_zero", support=PROMPT)
    assert message == {"done": [PASSED], "num_calls": 2}


def test_a_redefined_helper_does_not_judge_itself(run_tests: Any):
    liar = "poly = lambda *a: 0\nmath = poly\nfabs = poly\ndef find_zero(xs): return 7.0"
    message = run_tests(liar, CHECK, entry="find_zero", support=PROMPT)
    assert details(message) == [
        "AssertionError, at: assert math.fabs(poly(xs, candidate(xs))) < 1e-4"
    ]


@pytest.mark.parametrize(
    "name",
    ["abs", "all", "len", "check", "test_f", "math", "isclose", "Counter", "np", "_eq"],
)
def test_a_candidates_own_name_for_what_tests_rely_on_is_not_offered(run_tests: Any, name: str):
    liar = f"def f(x): return 5\ndef {name}(*args, **kwargs): return True"
    message = run_tests(liar, f"assert {name}(f(1), 3) is True and f.__len__", "assert f(1) == 3")
    assert not any(outcome["ok"] for outcome in message["done"])


def test_each_item_has_an_outcome_and_runs_after_a_failure(run_tests: Any):
    tests = ["assert f(1) == 2", "assert f(1) == 3", "f('a')", "x = f(5)", "assert x == 6"]
    message = run_tests("def f(x): return x + 1", *tests)
    assert message["num_calls"] == 4
    # the last one asks the candidate nothing: it counts only where it fails
    assert [outcome["ok"] for outcome in message["done"]] == [True, False, False, True]
    assert message["done"][1]["detail"] == "AssertionError, at: assert f(1) == 3"
    assert message["done"][2]["detail"].startswith("TypeError: can only concatenate str")


def test_functions_and_test_cases_are_outcomes_of_their_own(run_tests: Any):
    tests = """
import unittest
def helper(): raise RuntimeError
def test_one(): assert f(1) == 2
async def test_two(): assert f(2) == 2, "two"
class TestF(unittest.TestCase):
    @classmethod
    def setUpClass(cls): cls.base = 10
    def setUp(self): self.x = self.base
    def test_a(self): self.assertEqual(f(self.x), 11)
    def test_b(self):
        with self.assertRaises(TypeError): f(None)
    def test_c(self): self.assertEqual(f(0), 0)
    def test_d(self):
        with self.subTest(n=1): self.assertEqual(f(0), 5)
    @unittest.skip("not here")
    def test_e(self): pass
    @unittest.expectedFailure
    def test_g(self): self.assertEqual(f(0), 1)
"""
    message = run_tests("def f(x): return x + 1", tests)
    oks = [outcome["ok"] for outcome in message["done"]]
    assert oks == [True, False, True, True, False, False, False]
    assert (
        message["done"][1]["detail"]
        == 'AssertionError: two, at: async def test_two(): assert f(2) == 2, "two"'
    )
    assert message["done"][4]["detail"].startswith("AssertionError: 1 != 0, at: def test_c(self)")


def test_a_test_that_never_calls_the_candidate_shows_it(run_tests: Any):
    assert run_tests("def f(): pass", "assert True") == {"done": [], "num_calls": 0}


@pytest.mark.parametrize(
    "test",
    [
        "class TestF:\n    def test_two(self): assert f(2) == 4",
        "s = f\nclass TestF:\n    def setup_method(self, m): self.x = 2\n"
        "    def test_two(self): assert s(self.x) == 4",
        "f(1)\ndef test(): assert f(2) == 4",
        "f(1)\ndef test_two():\n    yield\n    assert f(2) == 4",
        "import functools\ndef verify(c, n): assert c(n) == 4\n"
        "check = functools.partial(verify, n=2)",
        "import unittest\nclass T(unittest.TestCase):\n    @unittest.skipIf(f(2) == 1, 'x')\n"
        "    def test_two(self): self.assertEqual(f(2), 4)",
    ],
)
def test_tests_that_would_not_run_by_themselves_are_run_or_fail(run_tests: Any, test: str):
    outcomes = run_tests("def f(x): return 1", test)["done"]
    assert outcomes and not any(outcome["ok"] for outcome in outcomes), outcomes


def test_a_class_in_pytests_manner_passes_where_it_should(run_tests: Any):
    test = (
        "class TestF:\n    def test_two(self): assert f(2) == 4\n"
        "    def test_one(self): assert f(1) == 2"
    )
    assert run_tests("def f(x): return 2 * x", test)["done"] == [PASSED, PASSED]


def test_a_candidate_cannot_skip_or_end_the_tests(run_tests: Any):
    code = """
import unittest
def f(x):
    if x == 0: raise unittest.SkipTest("skipped")
    if x == 1: raise SystemExit(0)
    raise StopIteration
"""
    tests = """
import unittest
class T(unittest.TestCase):
    def test_a(self): self.assertEqual(f(0), 1)
    def test_b(self): self.assertEqual(f(1), 1)
    def test_c(self):
        for got, wanted in zip(map(f, [2, 3]), [2, 3]): self.assertEqual(got, wanted)
"""
    kinds = [detail.split(", at")[0] for detail in details(run_tests(code, tests))]
    assert kinds == [
        "CandidateError: SkipTest: skipped",
        "CandidateError: SystemExit: 0",
        "CandidateError: StopIteration",
    ]


def test_an_exit_in_a_test_is_a_failure(run_tests: Any):
    message = run_tests("def f(): pass", "import sys\nsys.exit(0)", "f()")
    assert [outcome["ok"] for outcome in message["done"]] == [False, True]


@pytest.mark.parametrize(
    ("test", "support"), [("assert f(1", ""), ("pass", "1 / 0"), ("pass", "raise SystemExit")]
)
def test_tests_that_cannot_be_loaded_are_at_fault_themselves(
    run_tests: Any, test: str, support: str
):
    error = run_tests("def f(x): pass", test, support=support)["error"]
    assert (error["type"], error["where"]) == ("TestError", "load")


def test_support_may_build_objects_of_the_candidates_classes(run_tests: Any):
    code = """
class Node:
    def __init__(self, data): self.data, self.left, self.right = data, None, None
def height(node):
    return 1 + max(height(node.left), height(node.right)) if node else 0
"""
    support = "root = Node(1)\nroot.left = Node(2)\nroot.left.right = Node(3)"
    message = run_tests(code, "assert height(root) == 3", entry="height", support=support)
    assert message["done"] == [PASSED]


def test_a_method_as_entry_is_the_candidate(run_tests: Any):
    code = "class Solution:\n    def add(self, a, b): return a + b"
    tests = "def check(candidate): assert candidate(1, 2) == 3", "assert Solution().add(1, 2) == 3"
    assert run_tests(code, *tests, entry="Solution.add")["done"] == [PASSED, PASSED]


def test_details_that_do_not_fit_are_left_out(run_tests: Any):
    message = run_tests("def f(): pass", *["assert False, 'x' * 500"] * 3000)
    assert message["done"] == [{"ok": False, "detail": ""}] * 3000
