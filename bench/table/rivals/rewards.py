"""Dense and cheap rewards: the same Python, called by our reward workers and by the rivals."""

from typing import Any


def digits_right(completions: list[str], **columns: list[Any]) -> list[float]:
    """1 for the right number; else up to a half, for the digits that are right where they stand."""
    return [
        _digits(text.strip(), wanted)
        for text, wanted in zip(completions, columns["answer"], strict=True)
    ]


def distinct_words(completions: list[str], **columns: list[Any]) -> list[float]:
    """Share of the words that are said for the first time."""
    return [_distinct(text.lower().split()) for text in completions]


def _digits(text: str, wanted: str) -> float:
    if text == wanted:
        return 1.0
    right = sum(mine == theirs for mine, theirs in zip(text, wanted, strict=False))
    return 0.5 * right / max(len(text), len(wanted))


def _distinct(words: list[str]) -> float:
    return len(set(words)) / len(words) if words else 0.0
