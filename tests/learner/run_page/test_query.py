import pytest

from learner.run_page.query import Query, RequestError


def test_values_are_read_and_empty_ones_count_as_none():
    query = Query("a=7&b=-1.5&c=x%20y&d=", "abcde")
    assert (query.whole("a"), query.number("b"), query.text("c")) == (7, -1.5, "x y")
    assert (query.text("d"), query.whole("d"), query.number("e")) == (None, None, None)


@pytest.mark.parametrize("text", ["x", "-1", "1.0", "1e3", "٣", "9" * 40, "%00", "5"])
def test_what_is_no_whole_number_within_bounds_is_named(text):
    with pytest.raises(RequestError, match=r"a is .*: wanted a whole number from 0 to 4"):
        Query(f"a={text}", "a").whole("a", 0, 4)


@pytest.mark.parametrize("text", ["x", "nan", "inf", "-1e999"])
def test_what_is_no_finite_number_is_named(text):
    with pytest.raises(RequestError, match=r"a is .*: wanted a number"):
        Query(f"a={text}", "a").number("a")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("b=1", "unknown parameter 'b': known are a"),
        ("a=1&a=2", "a is given twice"),
        ("&".join(["a=1"] * 99), "more than 32 parameters"),
    ],
)
def test_other_parameters_are_refused(text, sentence):
    with pytest.raises(RequestError, match=sentence) as caught:
        Query(text, ("a",))
    assert caught.value.status.startswith("400")


def test_a_missing_number_is_asked_for():
    with pytest.raises(RequestError, match=r"a is missing"):
        Query("", ("a",)).wanted_whole("a")
