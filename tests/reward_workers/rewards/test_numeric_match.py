from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import RewardError
from reward_workers.rewards.numeric_match import last_number, numeric_match


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("85", "85"),
        ("so 37+48 is 85.", "85"),
        ("1,234", "1234"),
        ("it costs $1,234,567.50!", "1234567.50"),
        ("-3", "-3"),
        ("x = -3", "-3"),
        ("\u22123", "-3"),
        ("+7", "7"),
        ("10-4", "4"),
        ("f(2)-4", "4"),
        ("GPT-4", "4"),
        ("37-48=-11", "-11"),
        ("-$5.25", "-5.25"),
        (".5", "0.5"),
        ("2e-3", "0.002"),
        ("1.5E3", "1500"),
        ("12,34", "34"),
        ("1,2345", "2345"),
        ("(3, 4)", "4"),
        ("3/4", "4"),
        ("no idea", None),
        ("\u0663", None),  # an Arabic-Indic three
        ("", None),
    ],
)
def test_the_last_number_is_read(text, expected):
    assert last_number(text) == (None if expected is None else Decimal(expected))


@pytest.mark.parametrize(
    ("completion", "answer", "tolerance", "expected"),
    [
        ("the answer is 85", "85", 0.0, 1.0),
        ("the answer is 84", "85", 0.0, 0.0),
        ("2.50", "2.5", 0.0, 1.0),
        ("0.33", 1 / 3, 0.0, 0.0),
        ("0.33", 1 / 3, 0.01, 1.0),  # 0.3333 - 0.33 = 0.0033
        ("86", 85, 0.99, 0.0),
        ("86", 85, 1.0, 1.0),
        ("9007199254740993", "9007199254740992", 0.0, 0.0),  # equal as doubles
        ("1,000", "1000", 0.0, 1.0),
        ("18", "9 * 2 = 18 dollars\n#### 18", 0.0, 1.0),
        ("50%", "50%", 0.0, 1.0),
        ("no idea", "85", 0.0, 0.0),
        ("85", None, 0.0, None),
        ("85", "eighty-five", 0.0, None),
        ("4", "3/4", 0.0, None),
        ("1", True, 0.0, None),
        ("1e999", 1.0, 0.5, 0.0),
    ],
)
def test_equal_numbers_are_rewarded(completion, answer, tolerance, expected):
    assert numeric_match([completion], tolerance=tolerance, answer=[answer]) == [expected]


def test_the_column_with_the_reference_answer_can_be_named():
    assert numeric_match(["1", "2"], column="key", key=[1, 1]) == [1.0, 0.0]


def test_a_missing_column_is_an_error_that_names_it():
    with pytest.raises(RewardError, match="lacks the column 'answer'; it has: none"):
        numeric_match(["85"])


words = st.text(alphabet="abcdefgh .:\n", max_size=20)


@given(number=st.integers(-(10**15), 10**15), before=words, after=words, grouped=st.booleans())
def test_any_formatted_integer_is_found(number, before, after, grouped):
    written = f"{number:,}" if grouped else str(number)
    assert last_number(f"{before} {written} {after}") == number


@given(number=st.decimals(-(10**9), 10**9, places=4), before=words)
def test_any_formatted_decimal_is_found(number, before):
    assert last_number(f"{before} {number:,.4f}") == number


@given(st.text())
def test_no_text_breaks_it(text):
    assert numeric_match([text], answer=["85"]) in ([0.0], [1.0])
