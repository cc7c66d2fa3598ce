import pytest

from actors.stopping import Stopping

PIECES = {
    1: b"<end>",
    2: b" ab",
    3: b"c",
    4: b"STO",
    5: b"P it",
    6: b"xSTOPx",
    7: b"\xe2",
    8: b"\x82",
}
PIECES |= {9: b"\xac", 10: b"\n", 11: b""}


class Tokenizer:
    """Tokens of bytes, as in a tokenizer that falls back to them."""

    def __init__(self):
        self.longest = 0

    def decode(self, token_ids):
        self.longest = max(self.longest, len(token_ids))
        return b"".join(PIECES[token] for token in token_ids).decode("utf-8", errors="replace")


def tokens_taken(token_ids, *texts, stop_ids=()):
    """Those up to the one that ends the completion."""
    stopping = Stopping(stop_ids, texts, Tokenizer())
    for count in range(1, len(token_ids) + 1):
        if stopping.is_last(token_ids[:count]):
            return token_ids[:count]
    return None


@pytest.mark.parametrize(
    ("token_ids", "text"),
    [
        ([2, 6, 3], "STOP"),  # within a token
        ([2, 4, 5, 3], "STOP"),  # over two tokens
        ([2, 3, 2, 3], "c ab"),  # two whole ones
        ([2, 7, 8, 9, 3], "€"),  # one character of three tokens
        ([2, 7, 8, 9, 10, 3], "€\n"),
    ],
)
def test_the_token_with_which_a_text_is_complete_is_the_last(token_ids, text):
    assert tokens_taken(token_ids, "never", text) == token_ids[:-1]


def test_half_a_text_or_half_a_character_ends_nothing():
    assert tokens_taken([2, 4, 3, 5], "STOP") is None
    assert tokens_taken([7, 8, 3], "€", "\u20ad") is None


def test_stop_tokens_end_without_any_text():
    assert tokens_taken([2, 3, 1, 3], stop_ids={1}) == [2, 3, 1]
    assert not Stopping({1}).is_last([3])  # needs no tokenizer


def test_only_the_end_of_a_long_completion_is_decoded():
    tokenizer = Tokenizer()
    stopping = Stopping((), ["STOP"], tokenizer)
    assert not stopping.is_last([3] * 1000)
    assert stopping.is_last([3] * 1000 + [4, 5])
    assert tokenizer.longest <= 20


def test_a_text_of_nothing_but_split_characters_is_found():
    assert tokens_taken([3] * 50 + [7, 8, 9] * 3 + [3], "€€€") == [3] * 50 + [7, 8, 9] * 3


def test_the_tiny_policys_tokenizer_is_understood(tiny):
    token_ids = tiny.tokenizer.encode("12+34=", add_special_tokens=False)
    stopping = Stopping((), ["+3"], tiny.tokenizer)
    ends = [count for count in range(1, 7) if stopping.is_last(token_ids[:count])]
    assert ends[0] == 4
