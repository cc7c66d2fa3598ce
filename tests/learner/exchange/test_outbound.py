"""What the ledger decided -> messages, each to its peer on its channel."""

import json
from typing import Any

import pytest

from learner.data.prompts import TokenizedPrompt
from learner.data.sources import Row
from learner.data.stream import PromptStream
from learner.exchange.evaluation_book import EvaluationBook, SuitePrompts
from learner.exchange.outbound import (
    MAX_PART_ITEMS,
    MAX_PART_SIZE,
    Outbound,
    evaluation_seed,
)
from learner.exchange.prompt_book import PromptBook, prompt_entry
from learner.ledger import events as ev
from learner.ledger.groups import EVALUATION_IDS, Group
from learner.suites import Suite
from protocol.channels import PEER
from protocol.fields import MAX_TEXT
from protocol.messages import (
    LeaseCancel,
    LeaseGrant,
    Message,
    RolloutAck,
    RolloutAcks,
    SampleAck,
    ScoreAcks,
    ScoreWork,
)
from protocol.transport import Channel
from protocol.wire import MAX_FRAME_BYTES, decode

SUITE = Suite(("data",), "own", num_samples=3, temperature=0.25, max_completion_tokens=99)


class Sent:
    """A transport and a ledger in one: keeps what is sent, holds the groups to send about."""

    run_epoch = 3

    def __init__(self, config, columns=None, prompt_ids=(7, 8)):
        self.messages: list[tuple[Channel, str, Message]] = []
        self.largest_frame = 0
        self.groups: dict[int, Group] = {}
        row = Row("data:1", [{"role": "user", "content": "1+1=?"}], columns or {"answer": "2"})
        prompts = [TokenizedPrompt(row, prompt_ids)]
        held = EvaluationBook([SuitePrompts(SUITE, [prompt_entry(prompt) for prompt in prompts])])
        book = PromptBook(prompts, held, PromptStream(1, 0), 0)
        double: Any = self
        self._outbound = Outbound(double, double, book, config)

    def take(self, actions):
        """Takes the actions of one event."""
        self._outbound.take(actions)

    def carry_out(self, *turns):
        """Takes the actions of each event, and sends what they mean at the end of the turn."""
        for actions in turns:
            self.take(actions)
        self._outbound.flush()

    def send(self, channel, routing_id, frames):
        self.largest_frame = max(self.largest_frame, *map(len, frames))
        self.messages.append((channel, routing_id.decode(), decode(frames).message))
        return True

    def group(self, group_id):
        return self.groups.get(group_id)

    def add_group(self, group_id, samples, purpose: ev.Purpose = "train"):
        """A group whose rollouts have arrived."""
        self.groups[group_id] = group = Group(group_id, purpose, len(samples))
        group.lease("actor-1", 0)
        for slot, sample in zip(group.samples, samples, strict=True):
            slot.rollout = sample.rollout


@pytest.fixture
def config(make_config):
    return make_config(
        run={"seed": 5}, generation={"temperature": 0.8, "max_completion_tokens": 12}
    )


def grant(group_id, peer="actor-1", purpose: ev.Purpose = "train", num_samples=4):
    return ev.GrantLease(peer, group_id, 2, purpose, num_samples, 6)


def test_the_leases_of_one_peer_go_out_together(config):
    sent = Sent(config)
    sent.carry_out([grant(0), grant(1, "actor-2"), grant(2)])
    [(_, first, granted), (_, second, other)] = sent.messages
    assert {channel for channel, *_ in sent.messages} == {Channel.CONTROL}
    assert (first, second) == ("actor-1", "actor-2")
    assert isinstance(granted, LeaseGrant)
    assert isinstance(other, LeaseGrant)
    assert granted.run_epoch == 3
    assert [lease.group_id for lease in granted.leases] == [0, 2]
    assert [lease.group_id for lease in other.leases] == [1]


def test_a_training_lease_samples_as_the_run_is_configured(config):
    sent = Sent(config)
    sent.carry_out([grant(3)])
    [(_, _, granted)] = sent.messages
    assert isinstance(granted, LeaseGrant)
    [lease] = granted.leases
    assert (lease.group_id, lease.attempt, lease.purpose) == (3, 2, "train")
    assert (lease.num_samples, lease.max_completion_tokens) == (4, 12)
    assert (lease.temperature, lease.policy_version) == (0.8, 6)
    assert lease.prompt_ids.tolist() == [7, 8]


def test_an_evaluation_lease_samples_as_its_suite_is_configured(config):
    sent = Sent(config)
    sent.carry_out([grant(EVALUATION_IDS, purpose="evaluation", num_samples=3)])
    [(_, _, granted)] = sent.messages
    assert isinstance(granted, LeaseGrant)
    [lease] = granted.leases
    assert (lease.purpose, lease.num_samples) == ("evaluation", 3)
    assert (lease.temperature, lease.max_completion_tokens) == (0.25, 99)


def test_the_seed_of_a_prompt_is_the_same_at_every_evaluation(config):
    sent = Sent(config)
    sent.carry_out([grant(EVALUATION_IDS + n, purpose="evaluation") for n in range(3)])
    [(_, _, granted)] = sent.messages
    assert isinstance(granted, LeaseGrant)
    assert {lease.seed for lease in granted.leases} == {evaluation_seed(5, "data:1")}
    assert evaluation_seed(5, "data:1") != evaluation_seed(5, "data:2")
    assert evaluation_seed(5, "data:1") != evaluation_seed(6, "data:1")
    assert evaluation_seed(2**60, "data:1") < 2**53


def test_scoring_work_names_the_rewards_of_its_suite(config, make_sample):
    sent = Sent(config)
    sent.add_group(0, [make_sample()])
    sent.add_group(EVALUATION_IDS, [make_sample()], "evaluation")
    sent.carry_out(
        [ev.AssignScore("worker-1", 0, 1, 0), ev.AssignScore("worker-1", EVALUATION_IDS, 1, 0)]
    )
    [(_, _, work)] = sent.messages
    assert isinstance(work, ScoreWork)
    assert [task.suite for task in work.tasks] == ["", "own"]


def seeds(make_config, seed, *group_ids):
    sent = Sent(make_config(run={"seed": seed}))
    sent.carry_out([grant(group_id) for group_id in group_ids])
    [(_, _, granted)] = sent.messages
    assert isinstance(granted, LeaseGrant)
    return [lease.seed for lease in granted.leases]


def test_seeds_differ_by_group_and_run_and_are_the_same_again(make_config):
    every = [*seeds(make_config, 0, *range(50)), *seeds(make_config, 1, *range(50))]
    assert len(set(every)) == 100
    assert seeds(make_config, 1, 7) == [every[57]]
    assert seeds(make_config, 2**60, EVALUATION_IDS)[0] < 2**53


def test_scoring_work_carries_the_row_and_the_completion(config, make_sample):
    sent = Sent(config)
    sent.add_group(0, [make_sample(), make_sample(token_ids=(9, 9, 9), finish_reason="length")])
    sent.carry_out([ev.AssignScore("worker-1", 0, 1, 1)])
    [(channel, peer, work)] = sent.messages
    assert (channel, peer) == (Channel.ROLLOUTS, "worker-1")
    assert isinstance(work, ScoreWork)
    assert work.run_epoch == 3
    [task] = work.tasks
    assert (task.group_id, task.attempt, task.sample) == (0, 1, 1)
    assert json.loads(task.prompt) == [{"role": "user", "content": "1+1=?"}]
    assert json.loads(task.columns) == {"answer": "2"}
    assert (task.completion, task.completion_tokens) == ("completion 0/0", 3)
    assert task.finish_reason == "length"


def test_acks_and_cancels_reach_their_peer(config):
    sent = Sent(config)
    sent.carry_out(
        [
            ev.AckRollout("actor-1", 4, 1, 2, False, "stale_attempt"),
            ev.AckScore("worker-1", 4, 1, 2),
            ev.CancelLease("actor-1", 4, 1, "deadline"),
            ev.NeedPrompts(3),
        ]
    )
    where = {"group_id": 4, "attempt": 1}
    refused = RolloutAck(**where, sample=2, accepted=False, reason="stale_attempt")
    assert sent.messages == [
        (Channel.ROLLOUTS, "actor-1", RolloutAcks(acks=(refused,))),
        (Channel.ROLLOUTS, "worker-1", ScoreAcks(acks=(SampleAck(**where, sample=2),))),
        (Channel.CONTROL, "actor-1", LeaseCancel(**where, reason="deadline")),
    ]


def test_a_turn_sends_each_peer_one_message_of_a_kind(config, make_sample):
    sent = Sent(config)
    sent.add_group(0, [make_sample()] * 4)
    sent.carry_out(
        *([ev.AckRollout(f"actor-{i % 2}", 0, 1, i, True, ""), grant(i)] for i in range(4)),
        *(
            [ev.AckScore("worker-1", 7, 1, i), ev.AssignScore("worker-1", 0, 1, i)]
            for i in range(4)
        ),
    )
    kinds = [(type(message), peer) for _, peer, message in sent.messages]
    assert kinds == [
        (RolloutAcks, "actor-0"),
        (RolloutAcks, "actor-1"),
        (ScoreAcks, "worker-1"),
        (LeaseGrant, "actor-1"),
        (ScoreWork, "worker-1"),
    ]
    acked = [[a.sample for a in m.acks] for _, _, m in sent.messages[:3]]  # pyright: ignore
    assert acked == [[0, 2], [1, 3], [0, 1, 2, 3]]


def test_a_turn_without_actions_sends_nothing_and_nothing_is_sent_twice(config):
    sent = Sent(config)
    sent.carry_out([ev.AckScore("worker-1", 4, 1, 2), grant(0)])
    assert len(sent.messages) == 2
    sent.carry_out([])
    assert len(sent.messages) == 2


def test_a_grant_goes_out_before_its_cancel(config):
    sent = Sent(config)
    sent.carry_out([ev.CancelLease("actor-1", 0, 2, "not_held")], [grant(0)])
    assert [type(message) for _, _, message in sent.messages] == [LeaseGrant, LeaseCancel]


def test_work_is_sent_although_its_group_is_given_up_later_in_the_turn(config, make_sample):
    sent = Sent(config)
    sent.add_group(0, [make_sample()])
    sent.take([ev.AssignScore("worker-1", 0, 1, 0)])
    sent.groups.clear()
    sent.carry_out([])
    [(_, peer, work)] = sent.messages
    assert (peer, type(work)) == ("worker-1", ScoreWork)


def test_more_work_than_a_message_holds_goes_out_in_parts(config, make_sample):
    # a reward worker that joins late, with room for everything that waits
    sent = Sent(config)
    sample = make_sample()
    sent.add_group(0, [sample] * (2 * MAX_PART_ITEMS + 5))
    number = len(sent.groups[0].samples)
    sent.carry_out([ev.AssignScore("worker-1", 0, 1, i) for i in range(number)])
    sent.carry_out([grant(i) for i in range(number)])
    sent.carry_out([ev.AckScore("worker-1", 0, 1, i) for i in range(number)])
    tasks = [
        task.sample for _, _, m in sent.messages if isinstance(m, ScoreWork) for task in m.tasks
    ]
    leases = [
        lease.group_id
        for _, _, m in sent.messages
        if isinstance(m, LeaseGrant)
        for lease in m.leases
    ]
    acked = [a.sample for _, _, m in sent.messages if isinstance(m, ScoreAcks) for a in m.acks]
    assert tasks == leases == acked == list(range(number))
    assert len(sent.messages) == 9


def test_work_with_long_columns_fits_the_wire(config, make_sample):
    sent = Sent(config, columns={"tests": "x" * (MAX_TEXT // 2)})
    sent.add_group(0, [make_sample()] * 40)  # 80 million characters
    sent.carry_out([ev.AssignScore("worker-1", 0, 1, i) for i in range(40)])
    assert sent.largest_frame <= MAX_PART_SIZE + 100_000 < MAX_FRAME_BYTES
    tasks = [task for _, _, m in sent.messages if isinstance(m, ScoreWork) for task in m.tasks]
    assert [task.sample for task in tasks] == list(range(40))


def test_leases_with_long_prompts_fit_the_wire(config):
    prompt_ids = (3,) * 1_000_000  # 4 MB
    sent = Sent(config, prompt_ids=prompt_ids)
    sent.carry_out([grant(i) for i in range(5)])
    assert sent.largest_frame <= MAX_PART_SIZE + 100_000 < PEER[Channel.CONTROL].max_frame_bytes
    leases = [
        le.group_id for _, _, m in sent.messages if isinstance(m, LeaseGrant) for le in m.leases
    ]
    assert leases == list(range(5))
    assert len(sent.messages) == 3
