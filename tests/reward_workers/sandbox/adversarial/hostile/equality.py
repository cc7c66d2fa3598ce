"""Answers that claim to equal everything, and answers that are nearly the right one."""

from hostile.program import FAILED, PASSED, calls, in_tests

from reward_workers.sandbox.jobs import Equality

_AGREE = """
class Agrees({base}):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return hash(0)
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __contains__ = __lt__
    def __bool__(self): return True
    def __sub__(self, other): return 0
    __rsub__ = __sub__
    def __abs__(self): return 0
    def __getattr__(self, name): return lambda *a, **k: True
def f(x):
    return Agrees({start})
"""


def _agreeing(base: str, expected: object, start: str = ""):
    code = _AGREE.format(base=base, start=start)
    yield calls(f"agreeing_{base}", code, FAILED, args=(1,), expected=expected)
    yield in_tests(
        f"agreeing_{base}_in_a_test", code, FAILED, tests=(f"assert f(1) == {expected!r}",)
    )


def _near(name: str, value: str, expected: object, **more):
    """A value that Python's own == takes for the expected one, and that has another type."""
    return calls(name, f"def f(x): return {value}", FAILED, args=(1,), expected=expected, **more)


def _alike(name: str, value: str, expected: object):
    """A value that is sent as the plain one that it equals."""
    return calls(name, f"def f(x): return {value}", PASSED, args=(1,), expected=expected)


def _inside(name: str, value: str, expected: object):
    code = _AGREE.format(base="object", start="") + f"\ndef f(x): return {value}"
    return calls(name, code, FAILED, args=(1,), expected=expected)


PROGRAMS = (
    *_agreeing("object", 42),
    *_agreeing("int", 42),
    *_agreeing("float", 4.5),
    *_agreeing("str", "right"),
    *_agreeing("bytes", b"right"),
    *_agreeing("list", [1, 2]),
    *_agreeing("tuple", (1, 2)),
    *_agreeing("dict", {"a": 1}),
    *_agreeing("set", {1, 2}),
    _inside("agreeing_in_a_list", "[Agrees()]", [7]),
    _inside("agreeing_in_a_tuple", "(Agrees(), 1)", (7, 1)),
    _inside("agreeing_in_a_dict", "{'a': Agrees()}", {"a": 7}),
    _inside(
        "agreeing_class",
        "type('M', (type,), {'__eq__': lambda s, o: True, '__hash__': None})('A', (), {})",
        7,
    ),
    _near("true_for_one", "True", 1),
    _near("one_for_true", "1", True),
    _near("float_for_int", "1.0", 1),
    _near("int_for_float", "1", 1.0),
    _near("complex_for_int", "1 + 0j", 1),
    _near("int_subclass", "type('I', (int,), {})(1)", 1),
    _near("str_subclass", "type('S', (str,), {})('a')", "a"),
    _near("enum_for_int", "__import__('enum').IntEnum('E', 'A').A", 1),
    _near("fraction_for_int", "__import__('fractions').Fraction(1)", 1),
    _near("decimal_for_int", "__import__('decimal').Decimal(1)", 1),
    _alike("ordered_dict", "__import__('collections').OrderedDict(a=1)", {"a": 1}),
    _alike("default_dict", "__import__('collections').defaultdict(int, a=1)", {"a": 1}),
    _near("named_tuple", "__import__('collections').namedtuple('P', 'a b')(1, 2)", (1, 2)),
    _near("bytearray_for_bytes", "bytearray(b'a')", b"a"),
    _near("frozen_set_for_set", "frozenset({1})", {1}),
    _near("keys_of_true", "{True: 'a'}", {1: "a"}),
    _near("true_in_a_set", "{True}", {1}),
    _near("true_deep_inside", "[[[{'a': (True,)}]]]", [[[{"a": (1,)}]]]),
    _near("bytes_for_str", "b'a'", "a", harm="ends"),
    _near("tuple_for_list", "(1, 2)", [1, 2], harm="ends"),
    _near("nan_for_a_number", "float('nan')", 1.0, harm="ends"),
    _near("nan_for_nan", "float('nan')", float("nan"), harm="ends"),
    _near("infinity_for_a_number", "float('inf')", 1.7e308, harm="ends"),
    _near("infinity_for_its_negative", "float('-inf')", float("inf"), harm="ends"),
    _near("not_implemented", "NotImplemented", 1, harm="ends"),
    _near("nothing", "None", 0, harm="ends"),
    _near("ellipsis", "...", 1, harm="ends"),
    _near("text_of_the_value", "'[1, 2]'", [1, 2], harm="ends"),
    _near("tagged_as_on_the_wire", "{'$tuple': [1, 2]}", (1, 2), harm="ends"),
    _near("tagged_by_another_name", "{'tuple': [1, 2]}", (1, 2), harm="ends"),
    _near("tagged_as_a_pair", "['tuple', [1, 2]]", (1, 2), harm="ends"),
    _near("very_big_integer", "10 ** 4000 + 1", 10**4000, harm="ends"),
    _near("beyond_a_float", "2 ** 53 + 1", 2**53, harm="ends"),
    _near("digits_of_another_alphabet", "'\\u0661'", "1", harm="ends"),
    _near("other_normal_form", "'e\\u0301'", "\u00e9", harm="ends"),
    calls("minus_zero", "def f(x): return -0.0", PASSED, args=(1,), expected=0.0),
    calls(
        "within_the_tolerance",
        "def f(x): return 0.1 + 0.2",
        PASSED,
        args=(1,),
        expected=0.3,
        harm="ends",
    ),
    calls(
        "outside_the_tolerance",
        "def f(x): return 0.31",
        FAILED,
        args=(1,),
        expected=0.3,
        harm="ends",
    ),
    calls(
        "exact_floats",
        "def f(x): return 0.1 + 0.2",
        FAILED,
        args=(1,),
        expected=0.3,
        harm="ends",
        equality=Equality(tolerance=0),
    ),
    calls(
        "tuple_where_lists_were_tuples",
        "def f(x): return (1, (2,))",
        PASSED,
        args=(1,),
        expected=[1, [2]],
        harm="ends",
        equality=Equality(tuples_as_lists=True),
    ),
    calls(
        "nan_where_it_is_allowed",
        "def f(x): return float('nan')",
        PASSED,
        args=(1,),
        expected=float("nan"),
        harm="ends",
        equality=Equality(nan_equal=True),
    ),
    calls(
        "the_argument_itself",
        "def f(x): return x",
        FAILED,
        args=([1, 2],),
        expected=[2, 1],
        harm="ends",
    ),
    calls(
        "changed_argument",
        "def f(x):\n    x[0] = 'escaped'\n    return x[0]",
        PASSED,
        args=([1, 2],),
        times=2,
        harm=None,
        why="each call gets its own argument",
    ),
    in_tests(
        "a_hostile_argument_comes_back",
        """
        class A(list):
            def __eq__(self, other): return True
        def f(x):
            x.append(A())
            return x
        """,
        FAILED,
        tests=("assert f([1]) == [1, 7]",),
    ),
    in_tests(
        "true_for_one_in_a_test", "def f(x): return True", PASSED, tests=("assert f(1) == 1",)
    ),
)
