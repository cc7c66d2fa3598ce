"""The ledger's actions -> messages to peers."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from learner.exchange.prompt_book import PromptBook
from learner.ledger import events as ev
from learner.ledger.ledger import Ledger
from protocol.config import RunConfig
from protocol.messages import (
    Lease,
    LeaseCancel,
    LeaseGrant,
    Message,
    RolloutAck,
    ScoreAck,
    ScoreTask,
    ScoreWork,
)
from protocol.transport import Channel, LearnerTransport
from protocol.wire import encode

MAX_PART_ITEMS = 1000
MAX_PART_TEXT = 8_000_000
"""Characters of scoring work in one message, which must stay far below MAX_FRAME_BYTES."""

_SEED_SPAN = 2**53

T = TypeVar("T")


class Outbound:
    """Sends what the ledger decided; leases and scoring work go out together, peer by peer.

    Args:
        transport: the learner's sockets.
        ledger: where a group's rollouts are read from.
        prompts: where its prompt is read from.
        config: the run.
    """

    def __init__(
        self, transport: LearnerTransport, ledger: Ledger, prompts: PromptBook, config: RunConfig
    ) -> None:
        self._transport = transport
        self._ledger = ledger
        self._prompts = prompts
        self._config = config

    def send(self, channel: Channel, peer: str, message: Message) -> None:
        """Send one message; a peer that is gone loses it."""
        self._transport.send(channel, peer.encode(), encode(message))

    def carry_out(self, actions: Sequence[ev.Action]) -> None:
        """Send the messages that these actions mean; the others are the exchange's."""
        leases: defaultdict[str, list[Lease]] = defaultdict(list)
        tasks: defaultdict[str, list[ScoreTask]] = defaultdict(list)
        for action in actions:
            match action:
                case ev.GrantLease():
                    leases[action.peer].append(self._lease(action))
                case ev.AssignScore():
                    tasks[action.peer].append(self._task(action))
                case ev.AckRollout():
                    self._ack_rollout(action)
                case ev.AckScore():
                    self._ack_score(action)
                case ev.CancelLease():
                    self._cancel(action)
                case _:
                    pass
        epoch = self._ledger.run_epoch
        for peer, granted in leases.items():
            for leases_part in _parts(granted, lambda _: 0):
                grant = LeaseGrant(run_epoch=epoch, leases=leases_part)
                self.send(Channel.CONTROL, peer, grant)
        for peer, assigned in tasks.items():
            for tasks_part in _parts(assigned, _text_of):
                work = ScoreWork(run_epoch=epoch, tasks=tasks_part)
                self.send(Channel.ROLLOUTS, peer, work)

    def _lease(self, grant: ev.GrantLease) -> Lease:
        generation = self._config.generation
        training = grant.purpose == "train"
        return Lease(
            group_id=grant.group_id,
            attempt=grant.attempt,
            purpose=grant.purpose,
            prompt_ids=self._prompts.entry(grant.group_id).prompt_ids,
            num_samples=grant.num_samples,
            seed=(self._config.run.seed * 2**32 + grant.group_id) % _SEED_SPAN,
            temperature=generation.temperature if training else 0.0,
            max_completion_tokens=generation.max_completion_tokens,
            policy_version=grant.policy_version,
        )

    def _task(self, assign: ev.AssignScore) -> ScoreTask:
        group = self._ledger.group(assign.group_id)
        assert group is not None
        rollout = group.samples[assign.sample].rollout
        assert rollout is not None
        entry = self._prompts.entry(assign.group_id)
        return ScoreTask(
            group_id=assign.group_id,
            attempt=assign.attempt,
            sample=assign.sample,
            prompt=entry.prompt_json,
            completion=rollout.completion,
            completion_tokens=len(rollout.token_ids),
            finish_reason=rollout.finish_reason,
            columns=entry.columns_json,
        )

    def _ack_rollout(self, ack: ev.AckRollout) -> None:
        message = RolloutAck(
            group_id=ack.group_id,
            attempt=ack.attempt,
            sample=ack.sample,
            accepted=ack.accepted,
            reason=ack.reason,
        )
        self.send(Channel.ROLLOUTS, ack.peer, message)

    def _ack_score(self, ack: ev.AckScore) -> None:
        message = ScoreAck(group_id=ack.group_id, attempt=ack.attempt, sample=ack.sample)
        self.send(Channel.ROLLOUTS, ack.peer, message)

    def _cancel(self, cancel: ev.CancelLease) -> None:
        message = LeaseCancel(
            group_id=cancel.group_id, attempt=cancel.attempt, reason=cancel.reason
        )
        self.send(Channel.CONTROL, cancel.peer, message)


def _text_of(task: ScoreTask) -> int:
    return len(task.prompt) + len(task.completion) + len(task.columns)


def _parts(items: Sequence[T], text_of: Callable[[T], int]) -> Iterator[tuple[T, ...]]:
    """All items in order, in parts that each fit into a message."""
    part: list[T] = []
    text = 0
    for item in items:
        if part and (len(part) == MAX_PART_ITEMS or text + text_of(item) > MAX_PART_TEXT):
            yield tuple(part)
            part, text = [], 0
        part.append(item)
        text += text_of(item)
    yield tuple(part)
