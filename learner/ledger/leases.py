"""Which groups are with which actor, and until when."""

from learner.ledger.admission import LedgerLimits
from learner.ledger.deadlines import Deadlines
from learner.ledger.events import GrantLease, Purpose
from learner.ledger.group_table import GroupTable
from learner.ledger.groups import Group, GroupState
from learner.ledger.peers import Peers

WHOLE_GROUP = -1
"""The sample that stands for a whole group in an actor's outstanding work."""


class Leases:
    """Hands groups to actors, lowest id first, and watches that they go on.

    A lease ends when all its rollouts have arrived, or with its attempt.
    """

    def __init__(self, limits: LedgerLimits, table: GroupTable, peers: Peers) -> None:
        self._table = table
        self._peers = peers
        self._deadlines: Deadlines[int] = Deadlines(limits.lease_seconds)
        self._max_completion_tokens = limits.max_completion_tokens

    def grant(self, purpose: Purpose, oldest_version: int, now: float) -> GrantLease | None:
        """Leases the next ready group to an actor with room, or returns None.

        Args:
            purpose: What kind of group.
            oldest_version: The actor must hold this policy version or a newer one.
            now: The time.
        """
        if not self._table.has_ready(purpose):
            return None
        size = self._table.first_ready(purpose).num_samples
        actor = self._peers.most_free("actor", size, oldest_version)
        if actor is None:
            return None
        group = self._table.take_ready(purpose)
        group.lease(actor.name, actor.policy_version)
        self._table.move(group, GroupState.LEASED)
        self._peers.give(actor, (group.group_id, WHOLE_GROUP), size)
        self.renew(group, now)
        return GrantLease(
            peer=actor.name,
            group_id=group.group_id,
            attempt=group.attempt,
            purpose=purpose,
            num_samples=group.num_samples,
            policy_version=group.lease_version,
        )

    def held(self, peer: str, group_id: int, attempt: int) -> Group | None:
        """Returns the group if this is its current attempt and this actor was granted it."""
        group = self._table.groups.get(group_id)
        if group is None or group.attempt != attempt or group.holder != peer:
            return None
        return group

    def progress(self, group: Group, tokens: int, now: float) -> None:
        """Renews the lease if it has sampled more tokens than it had, up to what it may sample."""
        tokens = min(tokens, self._max_completion_tokens * group.num_samples)
        if group.state is GroupState.LEASED and tokens > group.tokens:
            group.tokens = tokens
            self.renew(group, now)

    def delivered(self, group: Group, now: float) -> None:
        """Notes that one completion of the group has come; the others get more time."""
        self._peers.deliver(group.holder, (group.group_id, WHOLE_GROUP))
        self.renew(group, now)

    def renew(self, group: Group, now: float) -> None:
        """Starts the lease's time again."""
        self._deadlines.set(group.group_id, now)

    def end(self, group: Group) -> None:
        """Ends the lease of a group, if it has one: its actor has room for another."""
        self._peers.release(group.holder, (group.group_id, WHOLE_GROUP))
        self._deadlines.clear(group.group_id)

    def pop_expired(self, now: float) -> list[Group]:
        """Returns the groups whose actors made no progress in time; the caller discards them."""
        return [self._table.groups[group_id] for group_id in self._deadlines.pop_expired(now)]
