import pytest

from protocol.errors import RewardError
from reward_workers.rewards.exact_match import exact_match


@pytest.mark.parametrize(
    ("completion", "answer", "expected"),
    [
        ("85", "85", 1.0),
        ("  85\n", "85", 1.0),
        ("85", "85\n", 1.0),
        ("85.", "85", 0.0),
        ("Paris", "paris", 0.0),
        ("", "85", 0.0),
        ("85", 85, 1.0),
        ("0.5", 0.5, 1.0),
        ("85", None, None),
    ],
)
def test_only_the_same_text_is_rewarded(completion, answer, expected):
    assert exact_match([completion], answer=[answer]) == [expected]


def test_the_column_with_the_reference_answer_can_be_named():
    assert exact_match(["b", "b"], column="key", key=["b", "c"], answer=["x", "x"]) == [1.0, 0.0]


def test_a_missing_column_is_an_error_that_names_it():
    with pytest.raises(RewardError, match=r"lacks the column 'answer'; it has: key, level"):
        exact_match(["b"], level=[1], key=["b"])


@pytest.mark.parametrize("answer", [True, ["85"], {"a": 1}])
def test_a_reference_answer_that_is_no_text_is_an_error(answer):
    with pytest.raises(RewardError, match="wanted text"):
        exact_match(["85"], answer=[answer])
