"""Values of a config against the annotations of a plug-in."""

import inspect

import pytest

from protocol.errors import ConfigError
from protocol.plugin_values import checked_value, signature_of


def quoted(count: "int", other: "NoSuchType" = 1): ...  # noqa: F821  # pyright: ignore


def plain(count: "int"): ...


def test_a_value_is_converted_as_its_annotation_says():
    assert checked_value("k", "3", int) == 3
    assert checked_value("k", [1, 2], tuple[int, ...]) == (1, 2)


@pytest.mark.parametrize("annotation", [inspect.Parameter.empty, "NoSuchType", object()])
def test_what_cannot_be_checked_is_taken_as_it_is(annotation):
    assert checked_value("k", "x", annotation) == "x"


def test_a_value_that_does_not_fit_is_named():
    with pytest.raises(ConfigError, match=r"^mine: k: .*integer.*found 'x'"):
        checked_value("mine: k", "x", int)


def test_annotations_in_quotes_are_evaluated_where_that_can_be_done():
    assert signature_of(plain).parameters["count"].annotation is int
    assert signature_of(quoted).parameters["count"].annotation == "int"
