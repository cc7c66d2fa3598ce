import json
import math
import time
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_workers.sandbox.harness.values import (
    Handle,
    NotPlain,
    TooLarge,
    decode,
    encode,
    keep,
)

any_text = st.text(st.characters(exclude_categories=()))
hashables = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**50, max_value=2**60)
    | st.floats(allow_nan=False)
    | any_text
    | st.binary()
    | st.complex_numbers(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.frozensets(inner, max_size=4),
    max_leaves=8,
)
values = st.recursive(
    hashables | st.binary().map(bytearray),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.sets(hashables, max_size=5)
        | st.dictionaries(hashables, inner, max_size=5)
    ),
    max_leaves=20,
)
tags = st.sampled_from(
    ["int", "float", "str", "bytes", "complex", "tuple", "set", "frozenset", "dict", "handle"]
)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(any_text, inner, max_size=2)
        | st.dictionaries(tags, inner | st.lists(st.lists(inner, max_size=3)), max_size=1)
    ),
    max_leaves=30,
)


nested_complex: Any = 0.0
for _ in range(2000):
    nested_complex = {"complex": [nested_complex, 0.0]}


def travel(value: Any) -> Any:
    return decode(json.loads(json.dumps(encode(value), allow_nan=False)))


@given(values)
def test_a_value_arrives_with_every_type_as_it_was(value: Any):
    assert repr_sorted(travel(value)) == repr_sorted(value)


def repr_sorted(value: Any) -> str:
    """Tells True from 1 from 1.0, and 0.0 from -0.0; sets in one order."""
    kind = type(value).__name__
    if isinstance(value, list | tuple):
        return f"{kind}[{','.join(map(repr_sorted, value))}]"
    if isinstance(value, set | frozenset):
        return f"{kind}[{','.join(sorted(map(repr_sorted, value)))}]"
    if isinstance(value, dict):
        pairs = (f"{repr_sorted(key)}:{repr_sorted(item)}" for key, item in value.items())
        return f"{kind}[{','.join(pairs)}]"
    return f"{kind} {value!r}"


@given(documents)
def test_any_document_is_a_value_or_a_value_error(document: Any):
    try:
        value = decode(document, handle=keep)
    except ValueError:
        return
    assert repr_sorted(decode(encode(value), handle=keep)) == repr_sorted(value)


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (2**53, 2**53),
        (2**53 + 1, {"int": "0x20000000000001"}),
        (-(2**64), {"int": "-0x10000000000000000"}),
        (1.0, 1.0),
        (math.inf, {"float": "inf"}),
        ("ß", "ß"),
        ("\ud83d\ude00", {"str": "eda0bdedb880"}),
        (b"\x00\xff", {"bytes": "00ff"}),
        (1 - 2j, {"complex": [1.0, -2.0]}),
        ((1, [2]), {"tuple": [1, [2]]}),
        ({"b": 1, 2: None}, {"dict": [["b", 1], [2, None]]}),
        (frozenset(), {"frozenset": []}),
    ],
)
def test_forms_by_hand(value: Any, wire: Any):
    assert encode(value) == wire
    assert type(decode(wire)) is type(value)
    assert decode(wire) == value


def test_nan_and_the_sign_of_zero_survive():
    assert math.isnan(travel(math.nan))
    assert math.copysign(1, travel(-0.0)) == -1
    assert len(travel({math.nan, float("nan")})) == 2


def test_dicts_of_collections_become_the_dict_that_they_equal():
    counted = defaultdict(int, {"a": 2})
    for value in (Counter("aa"), OrderedDict(a=2), counted):
        assert travel(value) == {"a": 2}
        assert type(travel(value)) is dict


class Agreeing:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # pyright: ignore[reportAssignmentType]


class AgreeingInt(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


class Liar(type):
    @property
    def __name__(cls) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        raise RuntimeError


class Nameless(metaclass=Liar):
    pass


class Colour(IntEnum):
    RED = 1


@pytest.mark.parametrize(
    "value",
    [
        Agreeing(),
        AgreeingInt(3),
        Nameless(),
        Colour.RED,
        namedtuple("Point", "x y")(1, 2),
        deque([1]),
        range(3),
        len,
        iter([]),
        {}.keys(),
        type,
    ],
)
def test_other_types_are_refused(value: Any):
    with pytest.raises(NotPlain):
        encode(value)
    with pytest.raises(NotPlain):
        encode([1, {"a": (value,)}])


def test_a_refusal_names_the_type_and_the_place():
    with pytest.raises(NotPlain, match=r"value\[1\]\['a'\]\[0\]: a AgreeingInt is not a plain"):
        encode([1, {"a": (AgreeingInt(3),)}])


def test_depth_100_passes_and_101_and_cycles_do_not():
    deep: Any = 0
    for _ in range(100):
        deep = [deep]
    assert travel(deep) == deep
    with pytest.raises(NotPlain, match="deeper than 100"):
        encode((deep,))
    with pytest.raises(ValueError, match="deeper than 100"):
        decode([encode(deep)])
    cycle: list[Any] = []
    cycle += [cycle, cycle]
    with pytest.raises(NotPlain, match="deeper"):
        encode({"x": cycle})


def test_what_shares_its_parts_is_refused_before_it_unfolds():
    value: list[Any] = []
    for _ in range(40):
        value = [value] * 10
    with pytest.raises(TooLarge):
        encode(value, max_bytes=1 << 20)
    with pytest.raises(TooLarge):
        encode(["x" * 1000] * 2000, max_bytes=1 << 20)


def test_an_int_of_more_than_a_million_bits_is_refused():
    assert travel(-(1 << (1 << 20) - 1)) == -(1 << (1 << 20) - 1)
    with pytest.raises(NotPlain, match="bits"):
        encode(1 << (1 << 20))


@pytest.mark.parametrize(
    "wire",
    [
        2**53 + 1,
        math.nan,
        math.inf,
        "\ud800",
        {},
        {"int": "0x1"},
        {"int": "0x" + "f" * 300_000},
        {"int": "0x20_000000000001"},
        {"int": " 0x20000000000001"},
        {"int": "0x٢0000000000001"},
        {"int": 5},
        {"float": "1e5"},
        {"float": "infinity"},
        {"str": "ff"},
        {"str": "é"},
        {"bytes": "0"},
        {"bytes": ["00"]},
        {"complex": [1, 2.0]},
        {"complex": [1.0]},
        {"complex": [[1.0], 1.0]},
        nested_complex,
        {"tuple": {}},
        {"tuple": None},
        {"set": [1, True]},
        {"set": [[]]},
        {"set": [{"tuple": [[]]}]},
        {"frozenset": [{"dict": []}]},
        {"dict": [[1]]},
        {"dict": [[1, 2], [1.0, 3]]},
        {"dict": [[[], 1]]},
        {"dict": {"a": 1}},
        {"tuple": [], "set": []},
        {"object": []},
        {"handle": [0, "Stack"]},
        (1, 2),
        b"",
    ],
)
def test_garbage_is_a_value_error(wire: Any):
    with pytest.raises(ValueError):  # noqa: PT011
        decode(wire)


def test_keys_that_collide_are_refused_before_they_cost_anything():
    # hash(n) is n modulo 2**61 - 1: fifty thousand keys of hash 0 would take half a minute
    keys = [n * (2**61 - 1) for n in range(1, 50_000)]
    started = time.process_time()
    for wire in ({"set": [encode(key) for key in keys]}, {"dict": [[encode(k), 0] for k in keys]}):
        with pytest.raises(ValueError, match="one hash"):
            decode(wire)
    assert time.process_time() - started < 5


def test_a_handle_travels_only_where_it_is_asked_for():
    agreeing = Agreeing()
    wire = encode([agreeing], otherwise=lambda value: Handle(7, type(value).__name__))
    assert wire == [{"handle": [7, "Agreeing"]}]
    assert decode(wire, handle=keep) == [Handle(7, "Agreeing")]
    assert encode(decode(wire, handle=keep)) == wire
    with pytest.raises(ValueError, match="handle"):
        decode(wire)


@pytest.mark.parametrize(
    "body", [[10_000, "A"], [-1, "A"], [True, "A"], [1.0, "A"], [1, "A" * 101], [1, 2], [1], "A"]
)
def test_a_handle_that_was_never_given_is_refused(body: Any):
    with pytest.raises(ValueError):  # noqa: PT011
        decode({"handle": body}, handle=keep)
