"""Leases on their way into the batch: prompts are computed in parts, rows join as room comes."""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from actors.batches.batch import Batch, Need
from actors.batches.prompts import Prompts
from actors.completion import Completion
from protocol.messages import Lease
from protocol.policy import LanguageModel


class Room(NamedTuple):
    """How much an engine decodes at once."""

    max_sequences: int
    """Rows."""
    max_kv_bytes: int = 0
    """Of keys and values, for rows that all become as long as they may; 0 is no bound."""
    prefill_step_tokens: int = 512
    """Prompt tokens that are computed between two decode steps."""
    lockstep: bool = False
    """One lease at a time, whole."""


class Sample(NamedTuple):
    """A row that joined the batch."""

    lease: Lease
    sample: int


class Entrance:
    """Computes the prompts of waiting leases, and lets their samples join.

    Prompts of one length are computed together. While rows are decoded, a prompt is computed part
    by part, so that a long one holds nobody up for long.

    Args:
        model: mlx-lm's calling convention.
        batch: where rows join.
        room: bounds.
    """

    def __init__(self, model: LanguageModel, batch: Batch, room: Room) -> None:
        self._model = model
        self._batch = batch
        self._room = room
        self._waiting: deque[Lease] = deque()
        self._entering: list[Lease] = []
        """Their prompts are computed, or being computed, together."""
        self._prompts: Prompts | None = None
        self._joined = 0
        """Samples of the first entering lease that have joined."""

    def __iter__(self) -> Iterator[Lease]:
        """Leases of which samples are still to join."""
        yield from self._entering
        yield from self._waiting

    def add(self, lease: Lease) -> None:
        """Queue a lease."""
        self._waiting.append(lease)

    def cancel(self, group_id: int, attempt: int) -> None:
        """Forget an attempt."""
        gone = (group_id, attempt)
        self._waiting = deque(lease for lease in self._waiting if _key(lease) != gone)
        if any(_key(lease) == gone for lease in self._entering):
            if _key(self._entering[0]) == gone:
                self._joined = 0
            self._entering = [lease for lease in self._entering if _key(lease) != gone]
            self._prompts = None

    def clear(self) -> None:
        """Forget every lease."""
        self._waiting.clear()
        self._leave(len(self._entering))

    def enter(self, rows: Sequence[Completion], policy_version: int) -> list[Sample]:
        """Let samples join the batch, in the order of the result, as far as there is room.

        Args:
            rows: that are decoded now.
            policy_version: the one that the model holds.
        """
        joined: list[Sample] = []
        tokens = self._room.prefill_step_tokens
        while tokens > 0 and (self._entering or self._begin(len(rows) + len(joined))):
            if not self._fits(rows, joined, self._entering[0], 1):
                break
            prompts = self._prompts_at(policy_version)
            done = prompts.advance(tokens)
            if rows or joined:
                tokens -= done
            if not prompts.remaining:
                joined += (new := self._join(rows, joined, prompts))
                if not new:
                    break
        return joined

    def _begin(self, num_rows: int) -> bool:
        """Take the first waiting lease, and others with prompts as long; False if none may come.

        These go before shorter and longer ones, but each time the first one goes.
        """
        if self._room.lockstep:
            self._entering = [self._waiting.popleft()] if self._waiting and not num_rows else []
            return bool(self._entering)
        if not self._waiting:
            return False
        first = self._waiting.popleft()
        self._entering = [first]
        if not self._batch.prompts_together:
            return True
        length = len(first.prompt_ids)
        num_rows, tokens = num_rows + first.num_samples, length
        for lease in [each for each in self._waiting if len(each.prompt_ids) == length]:
            num_rows, tokens = num_rows + lease.num_samples, tokens + length
            if num_rows > self._room.max_sequences or tokens > self._room.prefill_step_tokens:
                break
            self._entering.append(lease)
        taken = set(map(_key, self._entering))
        self._waiting = deque(lease for lease in self._waiting if _key(lease) not in taken)
        return True

    def _prompts_at(self, policy_version: int) -> Prompts:
        """The entering leases' prompts; begun anew when the weights have changed."""
        if self._prompts is None or self._prompts.policy_version != policy_version:
            caches = self._batch.open(len(self._entering))
            token_ids = [lease.prompt_ids for lease in self._entering]
            self._prompts = Prompts(self._model, caches, token_ids, policy_version)
        return self._prompts

    def _join(
        self, rows: Sequence[Completion], before: Sequence[Sample], prompts: Prompts
    ) -> list[Sample]:
        """Let as many samples of the entering leases join as fit."""
        joined: list[Sample] = []
        prompt_of_row: list[int] = []
        first = prompts.num_prompts - len(self._entering)
        left = 0
        for place, lease in enumerate(self._entering):
            wanted = lease.num_samples - self._joined
            count = wanted
            while count and not self._fits(rows, [*before, *joined], lease, count):
                count -= 1
            joined += [Sample(lease, self._joined + i) for i in range(count)]
            prompt_of_row += [first + place] * count
            self._joined += count
            if count < wanted:
                break
            self._joined, left = 0, left + 1
        if joined:
            self._batch.join(prompts, prompt_of_row)
        self._leave(left, keep_prompts=left < len(self._entering))
        return joined

    def _leave(self, count: int, *, keep_prompts: bool = False) -> None:
        self._entering = self._entering[count:]
        if not keep_prompts:
            self._prompts, self._joined = None, 0

    def _fits(
        self, rows: Sequence[Completion], joined: Sequence[Sample], lease: Lease, count: int
    ) -> bool:
        """Whether so many more rows of a lease fit; one row, or one lockstep lease, always does."""
        num_rows = len(rows) + len(joined)
        if self._room.lockstep or (not num_rows and count == 1):
            return True
        if num_rows + count > self._room.max_sequences:
            return False
        if not self._room.max_kv_bytes:
            return True
        per_token = self._batch.bytes_per_token
        if per_token is None:
            return False
        held = [row.lease for row in rows] + [sample.lease for sample in joined] + [lease] * count
        by_key = {_key(each): each for each in held}
        numbers = Counter(map(_key, held))
        needs = [
            Need(len(by_key[key].prompt_ids), by_key[key].max_completion_tokens, number)
            for key, number in numbers.items()
        ]
        return self._batch.tokens_to_hold(needs) * per_token <= self._room.max_kv_bytes


def _key(lease: Lease) -> tuple[int, int]:
    return lease.group_id, lease.attempt
