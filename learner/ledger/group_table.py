"""All open groups, found by id and by state, and the record of those that are done."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from heapq import heapify, heappop, heappush

from learner.ledger.events import Purpose
from learner.ledger.groups import Group, GroupState
from learner.ledger.snapshot import DoneGroups, Snapshot

IN_FLIGHT = (GroupState.LEASED, GroupState.SCORING, GroupState.SCORED, GroupState.HANDED_OVER)


class GroupTable:
    """Moves groups between states; whatever is done is forgotten but for its id.

    Evaluation groups are found by id and by `take_ready`; the states count training groups alone.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.groups: dict[int, Group] = {}
        self._by_state: dict[GroupState, dict[int, Group]] = {
            state: {} for state in (GroupState.READY, *IN_FLIGHT)
        }
        self._ready: dict[Purpose, list[int]] = {"train": [], "evaluation": []}
        """Heaps of group ids."""
        self._done = DoneGroups(snapshot)
        self._earlier_attempts = dict(snapshot.attempts)
        for scored in snapshot.scored:
            self.groups[scored.group_id] = group = Group.restored(scored)
            self._by_state[GroupState.SCORED][scored.group_id] = group
            self._earlier_attempts.pop(scored.group_id, None)
        self.changed = True
        """Something happened, since somebody set this to False, that a batch may wait for."""

    def add_prompt(self, group_id: int, group_size: int, row: int, retired: bool) -> bool:
        """Adds a training group, done at once if it is retired; False if it was added or is done.

        One that a checkpoint kept scored is open already, and only comes into the stream.
        """
        if not self._done.add(group_id):
            return False
        if group_id in self.groups:
            return True
        attempt = self._earlier_attempts.pop(group_id, 1)
        if retired:
            self._done.mark(group_id)
        else:
            self.add(Group(group_id, "train", group_size, row=row, attempt=attempt))
        return True

    def add(self, group: Group) -> None:
        """Adds a group that waits for an actor."""
        self.groups[group.group_id] = group
        self.make_ready(group)

    def has_ready(self, purpose: Purpose) -> bool:
        """True if a group waits for an actor."""
        return bool(self._ready[purpose])

    def first_ready(self, purpose: Purpose) -> Group:
        """Returns the waiting group with the lowest id."""
        return self.groups[self._ready[purpose][0]]

    def take_ready(self, purpose: Purpose) -> Group:
        """Returns the waiting group with the lowest id; the caller leases it out."""
        return self.groups[heappop(self._ready[purpose])]

    def of(self, state: GroupState) -> Mapping[int, Group]:
        """Returns the training groups in a state."""
        return self._by_state[state]

    def unfinished(self) -> list[Group]:
        """Returns the training groups that are leased or scoring."""
        states = (GroupState.LEASED, GroupState.SCORING)
        return [group for state in states for group in self._by_state[state].values()]

    def to_be_trained(self) -> list[Group]:
        """Returns the training groups that are in no batch yet."""
        states = (GroupState.READY, GroupState.SCORED)
        rest = [group for state in states for group in self._by_state[state].values()]
        return rest + self.unfinished()

    def in_flight(self) -> int:
        """Returns how many training groups are between their lease and their training."""
        return sum(len(self._by_state[state]) for state in IN_FLIGHT)

    def counts(self) -> dict[str, int]:
        """Returns how many training groups are in each state."""
        return {state.value: len(groups) for state, groups in self._by_state.items()}

    def move(self, group: Group, state: GroupState) -> None:
        """Moves a group to another open state."""
        if group.purpose == "train":
            self._by_state[group.state].pop(group.group_id, None)
            self._by_state[state][group.group_id] = group
            self.changed = True
        group.state = state

    def make_ready(self, group: Group) -> None:
        """Lets a group wait for an actor."""
        self.move(group, GroupState.READY)
        heappush(self._ready[group.purpose], group.group_id)

    def finish(self, group: Group, state: GroupState) -> None:
        """Forgets a group that was trained or dropped, its payload with it."""
        if group.state is GroupState.READY:
            self._ready[group.purpose].remove(group.group_id)
            heapify(self._ready[group.purpose])
        if group.purpose == "train":
            del self._by_state[group.state][group.group_id]
            self._done.mark(group.group_id)
            self.changed = True
        group.state = state
        del self.groups[group.group_id]

    def forget(self, group_ids: Iterable[int]) -> None:
        """Forgets the groups of an evaluation that is over."""
        for group_id in group_ids:
            del self.groups[group_id]

    def snapshot(self, batch: Iterable[int], counts: Mapping[str, int]) -> Snapshot:
        """Returns the state in which the groups of `batch` are done as well."""
        attempts = dict(self._earlier_attempts)
        for state, groups in self._by_state.items():
            if state is not GroupState.HANDED_OVER:
                attempts |= {i: group.attempt for i, group in groups.items() if group.attempt > 1}
        scored = sorted(self._by_state[GroupState.SCORED].items())
        return replace(
            self._done.snapshot(set(batch), tuple(sorted(attempts.items())), counts),
            scored=tuple(group.to_keep() for _, group in scored),
        )
