"""What ends a completion before its longest length: a token, or a text."""

from collections.abc import Iterable, Sequence
from typing import Any

TOKENS_A_CHARACTER = 4
"""At most, in a tokenizer that falls back to bytes."""


class Stopping:
    """Knows a completion's last token when it sees it.

    Args:
        stop_ids: tokens that end a completion, and belong to it.
        stop_texts: texts that do; they may begin and end within tokens.
        tokenizer: has `decode`; needed for texts only.
    """

    def __init__(
        self,
        stop_ids: Iterable[int],
        stop_texts: Sequence[str] = (),
        tokenizer: Any = None,  # noqa: ANN401
    ) -> None:
        self._stop_ids = frozenset(stop_ids)
        self._stop_texts = tuple(stop_texts)
        self._tokenizer: Any = tokenizer
        longest = max((len(text) for text in stop_texts), default=0)
        self._tail_tokens = TOKENS_A_CHARACTER * (longest + 1)

    def is_last(self, token_ids: Sequence[int]) -> bool:
        """Whether the newest of these tokens ends the completion."""
        if token_ids[-1] in self._stop_ids:
            return True
        if not self._stop_texts:
            return False
        tail = self._tokenizer.decode(list(token_ids[-self._tail_tokens :]))
        return any(text in tail for text in self._stop_texts)
