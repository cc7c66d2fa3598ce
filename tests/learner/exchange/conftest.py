"""A learner's exchange with peers in memory: fake sockets, a fake clock, real messages."""

import threading
from collections import deque
from concurrent.futures import Future
from typing import Any

import pytest

from learner.data.prompts import TokenizedPrompt
from learner.data.sources import Row
from learner.data.stream import PromptStream
from learner.exchange.evaluation_book import EvaluationBook, SuitePrompts
from learner.exchange.exchange import Exchange
from learner.exchange.prompt_book import PromptBook, prompt_entry
from learner.exchange.publish import Publisher
from learner.ledger.admission import LedgerLimits
from learner.ledger.ledger import Ledger
from learner.suites import Suite
from protocol.messages import (
    Heartbeat,
    HeartbeatAck,
    Hello,
    Lease,
    LeaseGrant,
    Message,
    NamedReward,
    Rollout,
    Score,
    ScoreTask,
    ScoreWork,
    Welcome,
)
from protocol.metrics import Metrics
from protocol.transport import Arrival, Channel
from protocol.weights import PackedWeights, digest_of
from protocol.wire import decode, decode_single, encode

DEADLINE_SECONDS = 10.0
GROUP_SIZE = 2


class FakeTransport:
    """A learner's sockets in memory; time passes only where a test says so."""

    def __init__(self):
        self.now = 0.0
        self.time_passes = False
        """True: every look for arrivals takes a tenth of a second of the clock."""
        self.closed = False
        self.failure: Exception | None = None
        """Raised from the next look for arrivals."""
        self.published: list[Message] = []
        self.turns = 0
        self._changed = threading.Condition()
        self._arrivals: deque[Arrival] = deque()
        self._sent: list[tuple[Channel, str, Message, bytes]] = []
        self._ended: list[int] = []
        self._awake = False
        self.gathers: bool | None = None
        """What the last turn asked for."""

    # The exchange's side.

    def clock(self):
        return self.now

    def receive(self, timeout_seconds, *, gather=False):
        with self._changed:
            self.gathers = gather
            if not self._arrivals and not self._awake:
                self._changed.wait(0.005)
            self._awake = False
            self.turns += 1
            self._changed.notify_all()
            if self.time_passes:
                self.now += timeout_seconds
            if self.failure is not None:
                raise self.failure
            arrived = list(self._arrivals)
            self._arrivals.clear()
            return arrived

    def lost(self):
        ended, self._ended = self._ended, []
        return ended

    def send(self, channel, routing_id, frames):
        received = decode(frames)
        with self._changed:
            self._sent.append((channel, routing_id.decode(), received.message, bytes(received.raw)))
            self._changed.notify_all()
        return True

    def publish(self, frame):
        with self._changed:
            self.published.append(decode_single(frame).message)
            self._changed.notify_all()

    def wake(self):
        with self._changed:
            self._awake = True
            self._changed.notify_all()

    def close(self):
        self.closed = True

    # The test's side.

    def deliver(self, channel, name, message, connection=-1):
        with self._changed:
            self._arrivals.append(Arrival(channel, name.encode(), encode(message), connection))
            self._changed.notify_all()

    def disconnect(self, connection):
        self._ended.append(connection)

    def pass_time(self, seconds):
        """Lets time pass as it does while the exchange is awake."""
        ends = self.now + seconds
        while self.now < ends:
            self.now = min(self.now + 1.0, ends)
            self.settle()

    def wait_for(self, condition):
        """Waits until it holds; returns what it gave."""
        with self._changed:
            found = self._changed.wait_for(condition, DEADLINE_SECONDS)
        assert found, "it did not come to pass in time"
        return found

    def settle(self):
        """Waits until everything that was delivered has been dealt with."""
        after = self.turns + 3
        self.wait_for(lambda: self.turns >= after)

    def to(self, name, message_type=Message):
        """[(message, raw)] that were sent to a peer."""
        return [
            (message, raw)
            for _, peer, message, raw in list(self._sent)
            if peer == name and isinstance(message, message_type)
        ]


class Peer:
    """An actor or reward worker that a test moves by hand."""

    def __init__(self, transport, name, capacity=4, version=0):
        self._transport = transport
        self.name = name
        self.role = "actor" if name.startswith("actor") else "reward_worker"
        self.capacity = capacity
        self.version = version
        self.taken = 0

    def join(self, connection=-1):
        hello = Hello(role=self.role, peer=self.name, host="h", pid=1)  # pyright: ignore
        self.say(Channel.CONTROL, hello, connection)
        self.wait_for(Welcome)
        self.beat(connection=connection)
        self.wait_for(HeartbeatAck)
        return self

    def beat(self, connection=-1, metrics=None):
        self.say(
            Channel.CONTROL,
            Heartbeat(
                peer=self.name,
                state="at work",
                policy_version=self.version,
                capacity=self.capacity,
                metrics=metrics or {},
                run_epoch=3,
            ),
            connection,
        )

    def say(self, channel, message, connection=-1):
        self._transport.deliver(channel, self.name, message, connection)

    def wait_for(self, message_type, number=1) -> list[Any]:
        """Waits until so many messages of a type have come; returns them all."""
        found = self._transport.wait_for(
            lambda: len(got := self._transport.to(self.name, message_type)) >= number and got
        )
        return [message for message, _ in found]

    def acked(self, message_type, number):
        """Waits for so many acks; returns them all."""

        def acks():
            return [a for m, _ in self._transport.to(self.name, message_type) for a in m.acks]

        self._transport.wait_for(lambda: len(acks()) >= number)
        return acks()

    def leases(self, number) -> list[Lease]:
        """Waits for so many leases; returns those that were not returned before."""

        def granted():
            grants = self._transport.to(self.name, LeaseGrant)
            return [lease for grant, _ in grants for lease in grant.leases]

        self._transport.wait_for(lambda: len(granted()) >= self.taken + number)
        new = granted()[self.taken :]
        self.taken += len(new)
        return new

    def tasks(self, number) -> list[ScoreTask]:
        """Waits for so many tasks; returns those that were not returned before."""

        def assigned():
            work = self._transport.to(self.name, ScoreWork)
            return [task for message, _ in work for task in message.tasks]

        self._transport.wait_for(lambda: len(assigned()) >= self.taken + number)
        new = assigned()[self.taken :]
        self.taken += len(new)
        return new

    def complete(self, lease):
        """Sends all rollouts of a lease; the tokens say which sample it is."""
        for sample in range(lease.num_samples):
            tokens = [int(lease.prompt_ids[0]), sample, 5]
            rollout = {
                "run_epoch": 3,
                "group_id": lease.group_id,
                "attempt": lease.attempt,
                "sample": sample,
                "token_ids": tokens,
                "behaviour_logprobs": [-0.5] * 3,
                "policy_versions": ((self.version, 3),),
                "finish_reason": "stop",
                "completion": f"{lease.group_id}/{sample}",
                "seconds": 0.5,
            }
            self.say(Channel.ROLLOUTS, Rollout.model_validate(rollout))

    def fail(self, task):
        """Says that a sample could not be scored."""
        score = Score(
            run_epoch=3,
            group_id=task.group_id,
            attempt=task.attempt,
            sample=task.sample,
            reward=None,
            rewards=(),
            status="sandbox_error",
        )
        self.say(Channel.ROLLOUTS, score)

    def score(self, task):
        """Rewards the first sample of a group."""
        reward = 1.0 if task.sample == 0 else 0.0
        score = Score(
            run_epoch=3,
            group_id=task.group_id,
            attempt=task.attempt,
            sample=task.sample,
            reward=reward,
            rewards=(NamedReward(name="exact_match", reward=reward),),
            status="ok",
        )
        self.say(Channel.ROLLOUTS, score)


class Run:
    """An exchange that was started, and the training thread's calls to it."""

    def __init__(self, config, heldout=2, epochs=None, pass_rate=None, further_suites=()):
        self.transport = FakeTransport()
        self.metrics = Metrics()
        self.version = 0
        section = config.learner
        limits = LedgerLimits(
            groups_per_step=section.groups_per_step,
            group_size=GROUP_SIZE,
            max_off_policy_steps=section.max_off_policy_steps,
            prompts_low_water=4,
            no_resampling_pass_rate=pass_rate,
            deterministic=config.run.deterministic,
        )
        train = [
            TokenizedPrompt(Row(f"t:{i}", f"t {i}", {"answer": str(i)}), (i,)) for i in range(6)
        ]
        held = [TokenizedPrompt(Row(f"h:{i}", f"h {i}", {}), (20 + i,)) for i in range(heldout)]
        self.publisher = Publisher(3, "full", "base", 2)
        suites = [SuitePrompts(Suite(("held",)), [prompt_entry(prompt) for prompt in held])]
        more = [SuitePrompts(suite, suites[0].prompts) for suite in further_suites]
        book = EvaluationBook([*suites, *more])
        self.book = PromptBook(train, book, PromptStream(len(train), 0, epochs), 0)
        self.exchange = Exchange(
            transport=self.transport,
            ledger=Ledger(limits, 3, 0),
            prompts=self.book,
            publisher=self.publisher,
            config=config,
            welcome=Welcome(
                run_id="run-1", run_epoch=3, policy_version=0, config="{}", host="h", run_dir="/x"
            ),
            vocabulary=35,
            metrics=self.metrics,
            clock=self.transport.clock,
        )

    def call(self, method, *arguments, **keywords) -> Future[Any]:
        """Calls the exchange as the training thread does; the future is what came of it."""
        outcome: Future[Any] = Future()

        def run():
            try:
                outcome.set_result(method(*arguments, **keywords))
            except BaseException as error:  # noqa: BLE001 - whatever the training thread would see
                outcome.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return outcome

    def peer(self, name, connection=-1, **more):
        """A peer that has joined."""
        return self.stranger(name, **more).join(connection)

    def stranger(self, name, **more):
        """A peer that has said nothing yet."""
        return Peer(self.transport, name, **more)

    def publish(self, data=b"weights", *, trained=False):
        """Publishes a version as training and its writer do."""
        if trained:
            self.exchange.trained()
            self.version += 1
        view = memoryview(data)
        self.exchange.publish(self.version, PackedWeights((), view, digest_of(view)))


@pytest.fixture
def start(make_config):
    started = []

    def make(learner=None, run=None, **more):
        section = {"groups_per_step": 1, "no_progress_seconds": 60.0, **(learner or {})}
        generation = {"group_size": GROUP_SIZE}
        config = make_config(run=run or {}, learner=section, generation=generation)
        run = Run(config, **more)
        run.exchange.start()
        started.append(run)
        return run

    yield make
    for run in started:
        run.transport.time_passes = True
        run.exchange.close("the test is over")
        assert run.transport.closed
