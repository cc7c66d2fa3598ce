"""Deadlines that are all the same time ahead, so that insertion order is the order of expiry."""

from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Deadlines(Generic[Key]):
    """Keys and when they expire; every operation is O(1) per key, and nothing dead is kept."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._expiry: dict[Key, float] = {}

    def set(self, key: Key, now: float) -> None:
        """Starts the key's time, or starts it again."""
        self._expiry.pop(key, None)  # a key that is set again moves to the end
        self._expiry[key] = now + self._seconds

    def clear(self, key: Key) -> None:
        """Forgets the key, if it is there."""
        self._expiry.pop(key, None)

    def pop_expired(self, now: float) -> list[Key]:
        """Returns and forgets the keys whose time is up."""
        expired: list[Key] = []
        for key, expiry in self._expiry.items():
            if expiry > now:
                break
            expired.append(key)
        for key in expired:
            del self._expiry[key]
        return expired
