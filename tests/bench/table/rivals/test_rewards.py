"""Rewards that both sides call."""

from bench.table.rivals.rewards import digits_right, distinct_words


def test_digits_that_stand_right_earn_up_to_a_half():
    # 127: three of three places but the last; 12: two of three; wrong from the first: 0
    found = digits_right(["128", "127", "12", "999", ""], answer=["128"] * 5)
    assert found == [1.0, 0.5 * 2 / 3, 0.5 * 2 / 3, 0.0, 0.0]


def test_repeated_words_earn_less():
    assert distinct_words(["a b c d", "A a a a", ""]) == [1.0, 0.25, 0.0]
