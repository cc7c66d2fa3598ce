"""The ledger's actions -> messages to peers."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import xxhash

from learner.exchange.prompt_book import PromptBook
from learner.ledger import events as ev
from learner.ledger.groups import Group
from learner.ledger.ledger import Ledger
from protocol.config import RunConfig
from protocol.config_evaluation import RUN_REWARDS
from protocol.messages import (
    Lease,
    LeaseCancel,
    LeaseGrant,
    Message,
    RolloutAck,
    RolloutAcks,
    SampleAck,
    ScoreAcks,
    ScoreTask,
    ScoreWork,
)
from protocol.transport import Channel, LearnerTransport
from protocol.wire import encode

MAX_PART_ITEMS = 1000
MAX_PART_SIZE = 8_000_000
"""Characters of scoring work, or bytes of prompts, in one message: far below MAX_FRAME_BYTES."""

_SEED_SPAN = 2**53

T = TypeVar("T")


class Outbound:
    """Sends what the ledger decided, once a turn: one message of a kind to each peer.

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
        self._rollout_acks: defaultdict[str, list[RolloutAck]] = defaultdict(list)
        self._score_acks: defaultdict[str, list[SampleAck]] = defaultdict(list)
        self._leases: defaultdict[str, list[Lease]] = defaultdict(list)
        self._tasks: defaultdict[str, list[ScoreTask]] = defaultdict(list)
        self._cancels: list[tuple[str, LeaseCancel]] = []

    def send(self, channel: Channel, peer: str, message: Message) -> None:
        """Send one message; a peer that is gone loses it."""
        self._transport.send(channel, peer.encode(), encode(message))

    def take(self, actions: Sequence[ev.Action]) -> None:
        """Note the messages that these actions mean; the other actions are the exchange's.

        A message is made of what the ledger holds now: later in the turn it may be gone.
        """
        for action in actions:
            match action:
                case ev.AckRollout():
                    self._rollout_acks[action.peer].append(_rollout_ack(action))
                case ev.AckScore():
                    self._score_acks[action.peer].append(_score_ack(action))
                case ev.AssignScore():
                    self._tasks[action.peer].append(self._task(action))
                case ev.GrantLease():
                    self._leases[action.peer].append(self._lease(action))
                case ev.CancelLease():
                    self._cancels.append((action.peer, _cancel(action)))
                case _:
                    pass

    def flush(self) -> None:
        """Send everything that was noted; a cancel comes after the grant that it takes back."""
        epoch = self._ledger.run_epoch
        for peer, acks in _parts(self._rollout_acks):
            self.send(Channel.ROLLOUTS, peer, RolloutAcks.model_construct(acks=acks))
        for peer, acks in _parts(self._score_acks):
            self.send(Channel.ROLLOUTS, peer, ScoreAcks.model_construct(acks=acks))
        for peer, leases in _parts(self._leases, _bytes_of):
            self.send(Channel.CONTROL, peer, LeaseGrant(run_epoch=epoch, leases=leases))
        for peer, cancel in self._cancels:
            self.send(Channel.CONTROL, peer, cancel)
        self._cancels.clear()
        for peer, tasks in _parts(self._tasks, _text_of):
            self.send(Channel.ROLLOUTS, peer, ScoreWork(run_epoch=epoch, tasks=tasks))

    def _lease(self, grant: ev.GrantLease) -> Lease:
        entry = self._prompts.entry(grant.group_id)
        run_seed, sampling = self._config.run.seed, self._config.generation
        if grant.purpose == "train":
            seed = (run_seed * 2**32 + grant.group_id) % _SEED_SPAN
        else:
            seed = evaluation_seed(run_seed, entry.prompt_id)
            sampling = self._prompts.evaluation.suite(grant.group_id)
        return Lease(
            group_id=grant.group_id,
            attempt=grant.attempt,
            purpose=grant.purpose,
            prompt_ids=entry.prompt_ids,
            num_samples=grant.num_samples,
            seed=seed,
            temperature=sampling.temperature,
            max_completion_tokens=sampling.max_completion_tokens,
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
            suite=self._reward_set(group),
        )

    def _reward_set(self, group: Group) -> str:
        if group.purpose == "train":
            return RUN_REWARDS
        return self._prompts.evaluation.suite(group.group_id).reward_set


def evaluation_seed(run_seed: int, prompt_id: str) -> int:
    """Of a prompt's samples: the same at each evaluation, so that two of them compare."""
    return xxhash.xxh3_64_intdigest(f"{run_seed}/{prompt_id}".encode()) % _SEED_SPAN


def _rollout_ack(ack: ev.AckRollout) -> RolloutAck:
    return RolloutAck(
        group_id=ack.group_id,
        attempt=ack.attempt,
        sample=ack.sample,
        accepted=ack.accepted,
        reason=ack.reason,
    )


def _score_ack(ack: ev.AckScore) -> SampleAck:
    return SampleAck(group_id=ack.group_id, attempt=ack.attempt, sample=ack.sample)


def _cancel(cancel: ev.CancelLease) -> LeaseCancel:
    return LeaseCancel(group_id=cancel.group_id, attempt=cancel.attempt, reason=cancel.reason)


def _text_of(task: ScoreTask) -> int:
    return len(task.prompt) + len(task.completion) + len(task.columns)


def _bytes_of(lease: Lease) -> int:
    return lease.prompt_ids.nbytes


def _nothing(_: object) -> int:
    return 0


def _parts(
    items_of: defaultdict[str, list[T]], size_of: Callable[[T], int] = _nothing
) -> Iterator[tuple[str, tuple[T, ...]]]:
    """Each peer's items in order, in parts that each fit into a message; empties the dict."""
    for peer, items in items_of.items():
        part: list[T] = []
        size = 0
        for item in items:
            if part and (len(part) == MAX_PART_ITEMS or size + size_of(item) > MAX_PART_SIZE):
                yield peer, tuple(part)
                part, size = [], 0
            part.append(item)
            size += size_of(item)
        yield peer, tuple(part)
    items_of.clear()
