"""Which rollouts are wanted; most of the others are told by their bytes, without being read."""

import json
import re
from dataclasses import dataclass
from functools import cached_property

from learner.run_page.json_values import as_number, text_pieces
from learner.run_page.rollout_rows import ARRAYS, Row

_OURS = b'{"group": '
_PLAIN = re.compile(r"[ !#-\[\]-~]+")
"""Characters that JSON writes as they are."""
_LOWER_TO_ASCII = (b"\\u212a", b"\\u0130")
"""The Kelvin sign and the dotted capital I: no others have an ASCII letter in their lower case."""


@dataclass(frozen=True)
class RolloutFilter:
    """What a rollout must be to be listed; None asks for nothing."""

    status: str | None = None
    finish_reason: str | None = None
    prompt_id: str | None = None
    min_reward: float | None = None
    max_reward: float | None = None
    text: str | None = None
    """In the prompt or the completion, whatever its case."""

    def may_match(self, line: bytes) -> bool:
        """Whether a line can hold a wanted row, for much less than reading it."""
        arrays = line.find(ARRAYS)
        if arrays < 0 or not line.startswith(_OURS):
            return True  # spaced or ordered in another way: only reading it can tell
        if not all(pair in line for pair in self._pairs):
            return False
        return self.text is None or self._may_hold_text(line[:arrays])

    def matches(self, row: Row) -> bool:
        """Whether a row is wanted."""
        named = ("status", "finish_reason", "prompt_id")
        if any(getattr(self, n) is not None and row.get(n) != getattr(self, n) for n in named):
            return False
        return self._has_reward(row) and (self.text is None or self._has_text(row))

    def _has_reward(self, row: Row) -> bool:
        if self.min_reward is None and self.max_reward is None:
            return True
        reward = as_number(row.get("reward"))
        if reward is None or (self.min_reward is not None and reward < self.min_reward):
            return False
        return self.max_reward is None or reward <= self.max_reward

    def _has_text(self, row: Row) -> bool:
        pieces = [*text_pieces(row.get("prompt")), *text_pieces(row.get("completion"))]
        return any(self._lower in piece.lower() for piece in pieces)

    def _may_hold_text(self, head: bytes) -> bool:
        if not head.isascii():
            return True
        lower = head.lower()
        if self._run in lower:
            # All that is not plain is written with a backslash.
            return self._is_plain or b"\\" in head
        return any(escape in lower for escape in _LOWER_TO_ASCII)

    @cached_property
    def _pairs(self) -> tuple[bytes, ...]:
        values = {
            "status": self.status,
            "finish_reason": self.finish_reason,
            "prompt_id": self.prompt_id,
        }
        return tuple(
            f'"{name}": {json.dumps(value)}'.encode()
            for name, value in values.items()
            if value is not None
        )

    @cached_property
    def _lower(self) -> str:
        return (self.text or "").lower()

    @cached_property
    def _run(self) -> bytes:
        """The longest part of the text that stands in a line as it is."""
        return max(_PLAIN.findall(self._lower), key=len, default="").encode()

    @cached_property
    def _is_plain(self) -> bool:
        return len(self._run) == len(self._lower)
