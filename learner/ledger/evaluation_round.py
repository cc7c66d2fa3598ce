"""The evaluation that is open, and when it is over."""

from collections.abc import Iterable

from learner.ledger.events import EvaluationFinished


class EvaluationRound:
    """Counts an evaluation's groups down to the last."""

    def __init__(self, group_ids: Iterable[int]) -> None:
        self._remaining = set(group_ids)
        self._scored: list[int] = []
        self._dropped: list[int] = []

    def settle(self, group_id: int, scored: bool) -> None:
        """Notes that a group was scored, or dropped."""
        self._remaining.discard(group_id)
        (self._scored if scored else self._dropped).append(group_id)

    def result(self) -> EvaluationFinished | None:
        """Returns the result, or None while a group is missing."""
        if self._remaining:
            return None
        return EvaluationFinished(tuple(sorted(self._scored)), tuple(sorted(self._dropped)))
