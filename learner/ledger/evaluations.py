"""The evaluation that is open, if one is, and when it is over."""

from learner.ledger.events import EvaluationFinished
from learner.ledger.group_table import GroupTable
from learner.ledger.groups import EVALUATION_IDS, Group


class Evaluations:
    """Opens one evaluation at a time, and counts its groups down to the last.

    Its groups stay in the table, to be read, until the next one is opened.
    """

    def __init__(self, table: GroupTable) -> None:
        self._table = table
        self._remaining: set[int] = set()
        self._scored: list[int] = []
        self._dropped: list[int] = []
        self._next_id = EVALUATION_IDS
        self.is_open = False

    def start(self, group_ids: tuple[int, ...], num_samples: tuple[int, ...]) -> None:
        """Adds an evaluation's groups and forgets the last one's."""
        assert not self.is_open, "one evaluation at a time"
        self._table.forget(self._scored)
        self.is_open = True
        self._remaining, self._scored, self._dropped = set(group_ids), [], []
        for group_id, number in zip(group_ids, num_samples, strict=True):
            assert group_id >= self._next_id, f"evaluation id {group_id} is not new"
            self._next_id = group_id + 1
            self._table.add(Group(group_id, "evaluation", number))

    def settle(self, group: Group, *, scored: bool) -> None:
        """Notes that a group was scored, or dropped; one of training is none of its business."""
        if group.purpose == "evaluation":
            self._remaining.discard(group.group_id)
            (self._scored if scored else self._dropped).append(group.group_id)

    def pop_finished(self) -> EvaluationFinished | None:
        """Closes the evaluation if no group is missing, and returns its result."""
        if not self.is_open or self._remaining:
            return None
        self.is_open = False
        return EvaluationFinished(tuple(sorted(self._scored)), tuple(sorted(self._dropped)))
