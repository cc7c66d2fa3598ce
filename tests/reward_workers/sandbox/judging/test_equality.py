import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_workers.sandbox.harness import values
from reward_workers.sandbox.jobs import Equality
from reward_workers.sandbox.judging.equality import equal

EXACT = Equality(tolerance=0.0)
NAN = math.nan

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
)
hashable = scalars | st.tuples(scalars, scalars) | st.frozensets(scalars, max_size=3)
plain = st.recursive(
    scalars | st.complex_numbers(allow_nan=False) | st.sets(hashable, max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(hashable, inner, max_size=3)
    ),
    max_leaves=8,
)


@given(plain)
def test_a_value_equals_itself_after_the_way_over_the_channel(value):
    assert equal(value, values.decode(values.encode(value)), EXACT)


@given(plain, plain)
def test_equal_values_are_equal_for_python_too_and_either_way_round(a, b):
    assert equal(a, b, EXACT) == equal(b, a, EXACT)
    if equal(a, b, EXACT):
        assert a == b


@given(plain)
def test_a_wrapped_value_is_another_value(value):
    assert not equal(value, [value])
    assert not equal([value], [value, value])
    assert not equal({"a": value}, {"b": value})


@pytest.mark.parametrize(
    ("expected", "returned"),
    [
        (1, True),
        (0, False),
        (1, 1.0),
        ("1", 1),
        ("a", b"a"),
        (b"a", bytearray(b"a")),
        ([1], (1,)),
        ({1}, frozenset({1})),
        ({1}, {True}),
        ({1: "a"}, {True: "a"}),
        ({1: "a"}, {1.0: "a"}),
        ({(1, 2): 0}, {(1, True): 0}),
        ({0.1}, {0.1 + 1e-9}),
        ({frozenset({1})}, {frozenset({True})}),
        (2**70, 2**70 + 1),
        (10**400, 1.0),
        (math.inf, -math.inf),
        (math.inf, 1.7e308),
        (NAN, NAN),
        ([NAN], [NAN]),
        ({NAN}, {NAN}),
        (1.0, 1.0 + 3e-6),
        (None, 0),
        ([], {}),
    ],
)
def test_values_that_differ(expected, returned):
    assert not equal(expected, returned)
    assert not equal(returned, expected)


@pytest.mark.parametrize(
    ("expected", "returned"),
    [
        (1.0, 1.0 + 5e-7),
        (1e9, 1e9 + 500),
        (0.0, -0.0),
        (0.0, 9e-7),
        (math.inf, math.inf),
        ({"a": 0.1 + 0.2}, {"a": 0.3}),
        ({1: 2, "b": [3]}, {"b": [3], 1: 2}),
        ({1, 2.5, (3, None)}, {(3, None), 2.5, 1}),
        ([10**5000], [10**5000]),
    ],
)
def test_values_that_are_the_same(expected, returned):
    assert equal(expected, returned)


def test_nan_equals_nan_where_the_task_says_so():
    assert equal([NAN, {NAN}, {NAN: 1}], [NAN, {NAN}, {NAN: 1}], Equality(nan_equal=True))
    assert not equal(NAN, 1.0, Equality(nan_equal=True))


def test_tuples_are_lists_where_the_task_says_so():
    json_like = Equality(tuples_as_lists=True)
    assert equal([[1, 2], 3], ((1, 2), 3), json_like)
    assert not equal([1, 2], (1, True), json_like)
    assert not equal([1, 2], {1, 2}, json_like)


def test_depth_is_no_matter():
    deep, other = [1], [1]
    for _ in range(50_000):
        deep, other = [deep], [other]
    assert equal(deep, other)
