"""Which prompts of the training stream are done, and how that survives a crash of the learner."""

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from protocol.messages import Rollout, Score


@dataclass(frozen=True, slots=True)
class ScoredGroup:
    """A group that was scored and is in no batch yet, with all that a batch needs of it."""

    group_id: int
    row: int
    """Of the data."""
    attempt: int
    actor: str
    """That generated it."""
    lease_version: int
    oldest_version: int
    rollouts: tuple[Rollout, ...]
    """By sample."""
    scores: tuple[Score, ...]
    """By sample."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a checkpoint keeps of the ledger, cut when a batch is handed over.

    It counts the batch as trained: store it with the weights that result from that batch. What was
    leased or scoring is not in it and is issued again after a resume.
    """

    watermark: int = 0
    """Every prompt below is done."""
    done: tuple[int, ...] = ()
    """Done prompts from the watermark on, rising."""
    attempts: tuple[tuple[int, int], ...] = ()
    """(group id, attempt) of open groups that are beyond their first attempt."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Counters of the run so far."""
    batch_groups: int = 0
    """Groups in the batch that was handed over with this snapshot."""
    retired: tuple[int, ...] = ()
    """Rows of the data that are retired, those that the batch retires with them; rising."""
    retired_by_batch: tuple[int, ...] = ()
    """Those of them that only the batch retires, rising."""
    scored: tuple[ScoredGroup, ...] = ()
    """Groups that need not be generated again, by id; `to_json` leaves them out."""

    def with_batch_dropped(self, reason: str) -> "Snapshot":
        """Returns the snapshot for a batch that was skipped.

        The same prompts are done; none is retired by it.
        """
        counts = dict(self.counts)
        counts["trained"] = counts.get("trained", 0) - self.batch_groups
        counts[f"dropped/{reason}"] = counts.get(f"dropped/{reason}", 0) + self.batch_groups
        retired = tuple(sorted(set(self.retired).difference(self.retired_by_batch)))
        return replace(self, counts=counts, batch_groups=0, retired=retired, retired_by_batch=())

    def to_json(self) -> dict[str, Any]:
        """Returns plain data that `from_json` reads back, also after a trip through JSON."""
        return {
            "watermark": self.watermark,
            "done": list(self.done),
            "attempts": [list(pair) for pair in self.attempts],
            "counts": dict(self.counts),
            "batch_groups": self.batch_groups,
            "retired": list(self.retired),
            "retired_by_batch": list(self.retired_by_batch),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Snapshot":
        """Returns the snapshot that `to_json` wrote; one without retired rows has none."""
        return cls(
            watermark=data["watermark"],
            done=tuple(data["done"]),
            attempts=tuple((group_id, attempt) for group_id, attempt in data["attempts"]),
            counts=dict(data["counts"]),
            batch_groups=data["batch_groups"],
            retired=tuple(data.get("retired", ())),
            retired_by_batch=tuple(data.get("retired_by_batch", ())),
        )


class DoneGroups:
    """Done prompts as a watermark and a set beyond it, so that memory does not grow with the run.

    Prompts come with rising ids, with or without gaps.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._beyond = set(snapshot.done)
        self._added: deque[int] = deque()
        """Prompts from the oldest open one on."""
        self._next_id = snapshot.watermark

    def add(self, group_id: int) -> bool:
        """Notes a prompt of the stream; False if it is done or was added before."""
        if group_id < self._next_id:
            return False
        self._next_id = group_id + 1
        self._added.append(group_id)
        if group_id not in self._beyond:
            return True
        self._advance()
        return False

    def mark(self, group_id: int) -> None:
        """Notes that an added prompt was trained or dropped."""
        self._beyond.add(group_id)
        self._advance()

    def snapshot(
        self,
        batch: Collection[int],
        attempts: tuple[tuple[int, int], ...],
        counts: Mapping[str, int],
    ) -> Snapshot:
        """Returns the state in which the prompts of `batch` are done as well."""
        done = self._beyond.union(batch)
        watermark = next((added for added in self._added if added not in done), self._next_id)
        # What is done without having been read is at the watermark if nothing before it is open.
        beyond = tuple(sorted(group_id for group_id in done if group_id >= watermark))
        return Snapshot(watermark, beyond, attempts, counts, len(batch))

    def _advance(self) -> None:
        while self._added and self._added[0] in self._beyond:
            self._beyond.remove(self._added.popleft())
