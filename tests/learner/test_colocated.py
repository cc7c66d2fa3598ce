"""An actor between training steps: a real policy and engine; link and exchange are the test's."""

import queue
import signal
import threading
import time
from collections import deque
from typing import Any, cast

import learner  # noqa: F401 - loads the BLAS before mlx

# isort: split
import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map

from learner import colocated
from learner.colocated import Colocated, TrainedWeights
from learner.ledger.snapshot import Snapshot
from learner.samples import ScoredBatch
from protocol.errors import RunStopped
from protocol.messages import Lease, LeaseCancel, LeaseFailed, LeaseGrant, Notice, Welcome
from protocol.peer import Ended
from protocol.policy import frozen_arrays, load_policy, logits, token_logprobs
from protocol.transport import Channel
from protocol.weights import combined_digest
from protocol.wire import Received

BATCH = ScoredBatch((), Snapshot())
TOKENS = 12
STALE = {"max_off_policy_steps": 2}
SYNCHRONOUS = {"max_off_policy_steps": 0}


@pytest.fixture(autouse=True)
def _uncompiled():
    mx.disable_compile()
    yield
    mx.enable_compile()


class Exchange:
    """Answers a wait when the test says so, in the thread that asks."""

    def __init__(self):
        self.answers: queue.Queue[Any] = queue.Queue()
        self.calls = []

    def next_batch(self):
        self.calls.append("next_batch")
        return self._answer()

    def evaluate(self):
        self.calls.append("evaluate")
        return self._answer()

    def trained(self):
        self.calls.append("trained")

    def skip(self, reason):
        self.calls.append(f"skip {reason}")

    def counts(self):
        return {"trained": 3}

    def last_counts(self):
        return {"trained": 4}

    def _answer(self):
        answer = self.answers.get(timeout=60)
        if isinstance(answer, BaseException):
            raise answer
        return answer


class Link:
    """In the place of the actor's link; `turns` are called one at each of the actor's turns."""

    def __init__(self, hello, transport, address):
        self.hello, self.address = hello, address
        self.started = 0
        self.ended: Ended | None = None
        self.inbox: deque[Received] = deque()
        self.turns = deque()
        self.was_training = []
        self.kept = {}
        self.sent = []
        self.reports = []
        self.woken = threading.Event()
        self.policy: Any = None

    def start(self):
        self.started += 1

    def receive(self, timeout_seconds):
        self.was_training.append(self.policy.model.training)
        if not self.inbox and self.turns:
            self.turns.popleft()()
        if not self.inbox and timeout_seconds:
            self.woken.wait(timeout_seconds)
            self.woken.clear()
        return self.inbox.popleft() if self.inbox else None

    def report(self, status, *, now=False):
        self.reports.append(status)

    def send(self, channel, message):
        self.sent.append((channel, message))

    def keep(self, key, message):
        self.kept[key] = message

    def route(self, channel, take):
        pass

    def wake(self):
        self.woken.set()


class Rig:
    """A colocated actor that has joined, and what the test does as learner and exchange."""

    def __init__(self, config, policy_version=0):
        self.config = config
        self.policy = load_policy(config)
        self.policy.tokenizer.eos_token_ids.clear()  # completions of known lengths
        self.policy.model.train()
        self.exchange = Exchange()
        self.colocated = Colocated(self.exchange, self.policy, policy_version, config, "run-1")
        self.link = cast(Any, self.colocated)._link
        self.link.policy = self.policy
        self.say(
            Welcome(
                run_id="run-1",
                run_epoch=1,
                policy_version=policy_version,
                config=config.model_dump_json(),
                host="here",
                run_dir="/nowhere",
            )
        )
        self.colocated.join()

    def say(self, message):
        self.link.inbox.append(Received(message, b""))

    def grant(self, group_id, *, attempt=1, purpose="train", policy_version=0):
        lease = Lease.model_validate(
            {
                "group_id": group_id,
                "attempt": attempt,
                "purpose": purpose,
                "prompt_ids": np.array([7, 8, 9], np.int32),
                "num_samples": 2,
                "seed": group_id,
                "temperature": 0.7,
                "max_completion_tokens": TOKENS,
                "policy_version": policy_version,
            }
        )
        self.say(LeaseGrant(run_epoch=1, leases=(lease,)))

    def answer(self, with_what=BATCH):
        """Give the one who waits its answer, and come back when the actor can know it."""
        self.exchange.answers.put(with_what)
        assert self.link.woken.wait(60)

    def wait_for(self, turns, ask="next_batch"):
        """Let the actor work for so many turns."""
        self.link.woken.clear()
        self.link.turns = deque([lambda: None] * turns + [self.answer])
        return getattr(self.colocated, ask)()

    def train(self, shift=0.25):
        """What a training step does to the policy."""
        model = self.policy.model
        model.update(tree_map(lambda array: array + shift, model.trainable_parameters()))

    def versions(self):
        return {key: rollout.policy_versions for key, rollout in self.link.kept.items()}


@pytest.fixture
def make_rig(make_config, monkeypatch):
    monkeypatch.setattr(colocated, "PeerLink", Link)
    monkeypatch.setattr(colocated, "PeerSockets", lambda address, peer: (address, peer))
    rigs = []

    def make(policy_version=0, **sections):
        sections = {"learner": STALE, **sections}
        sections["learner"] = {"colocated_actor": True, **sections["learner"]}
        config = make_config(policy={"compute_dtype": "float32"}, **sections)
        rigs.append(Rig(config, policy_version))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.exchange.answers.put(BATCH)  # whoever still waits


@pytest.fixture
def rig(make_rig):
    return make_rig()


def logprobs_by(policy, rollout):
    """[T] nats, of a rollout's tokens under the policy as it is, over one forward pass."""
    tokens = rollout.token_ids.tolist()
    logits_TV = logits(policy.model, mx.array([[7, 8, 9, *tokens[:-1]]]))[0, 2:]
    return np.array(token_logprobs(logits_TV, mx.array(tokens), 0.7))


# --- the weights -------------------------------------------------------------------------------


@pytest.fixture
def policy(make_config):
    return load_policy(make_config(learner={"tuning": "lora"}))


def test_a_version_is_taken_once_and_the_next_when_the_policy_was_trained(policy):
    weights = TrainedWeights(policy, 5)
    weights.start()
    weights.reset(2)
    weights.want(2, 9)  # the learner announces what it has
    weights.put(Received(Notice(run_id="r", run_epoch=2, policy_version=9, digest=""), b""))
    first = weights.take()
    assert first is not None
    assert (first.manifest.run_epoch, first.manifest.policy_version) == (2, 5)
    assert first.manifest.base_digest == combined_digest(frozen_arrays(policy))
    assert weights.take() is None
    weights.trained()
    weights.trained()
    second = weights.take()
    assert second is not None and second.manifest.policy_version == 7
    assert weights.take() is None
    weights.reset(3)
    again = weights.take()
    assert again is not None
    assert (again.manifest.run_epoch, again.manifest.policy_version) == (3, 7)
    assert weights.metrics() == {}
    weights.close()


def test_a_version_is_what_the_policy_is_when_it_is_taken(policy):
    weights = TrainedWeights(policy, 0)
    weights.reset(1)
    changed = {name: array + 1 for name, array in policy.trained().items()}
    policy.apply(changed)
    taken = weights.take()
    assert taken is not None
    found = taken.weights()
    assert found.keys() == changed.keys()
    held = dict(cast(Any, tree_flatten(policy.model.trainable_parameters())))
    assert all(found[name] is held[name] for name in found)  # not a copy


# --- turns -------------------------------------------------------------------------------------


def test_rollouts_come_while_a_batch_is_waited_for(rig):
    rig.grant(1)
    assert rig.wait_for(TOKENS + 2) is BATCH
    assert rig.versions() == {(1, 1, 0): ((0, TOKENS),), (1, 1, 1): ((0, TOKENS),)}
    for rollout in rig.link.kept.values():
        wanted = logprobs_by(rig.policy, rollout)
        np.testing.assert_allclose(rollout.behaviour_logprobs, wanted, atol=1e-4, rtol=0)


def test_it_has_joined_before_the_first_step_and_is_an_actor_of_this_process(rig):
    assert rig.link.started == 1
    assert rig.link.was_training == [False] * len(rig.link.was_training)
    assert rig.policy.model.training
    assert rig.link.reports  # it has an engine and says so
    rig.wait_for(1)
    rig.wait_for(1, "evaluate")
    assert rig.link.started == 1
    assert rig.exchange.calls == ["next_batch", "evaluate"]
    hello = rig.link.hello
    assert (hello.role, hello.run_id) == ("actor", "run-1")
    assert hello.fingerprint == colocated.fingerprint()


def test_a_learner_that_does_not_answer_is_not_waited_for_without_end(make_rig, monkeypatch):
    monkeypatch.setattr(colocated, "JOIN_SECONDS", 0.0)
    rig = make_rig()
    assert rig.link.reports == []
    rig.grant(1)
    rig.wait_for(TOKENS + 2)
    assert len(rig.link.kept) == 2


def test_an_actor_that_is_refused_does_not_hold_the_start_up(make_rig, monkeypatch):
    monkeypatch.setattr(Link, "start", lambda link: setattr(link, "ended", Ended(2, "refused")))
    began = time.monotonic()
    rig = make_rig()
    assert time.monotonic() - began < colocated.JOIN_SECONDS / 2
    with pytest.raises(RunStopped, match="refused"):
        rig.colocated.next_batch()


def test_a_new_version_is_taken_at_once(rig):
    rig.wait_for(1)
    rig.link.woken.clear()
    rig.train()
    rig.colocated.trained()
    assert rig.link.woken.is_set()  # or the first turn would wait for a message


def test_what_follows_a_training_step_is_of_the_next_version(make_rig):
    recompute = {"recompute_kv_cache_after_weight_updates": True}
    rig = make_rig(3, generation=recompute)
    rig.grant(1)
    rig.wait_for(5)
    rig.train()
    rig.colocated.trained()
    rig.grant(2)
    rig.wait_for(TOKENS + 5)
    versions = rig.versions()
    for sample in range(2):
        (old, before), (new, after) = versions[1, 1, sample]
        assert (old, new, before + after) == (3, 4, TOKENS)
        assert 0 < before < TOKENS
        assert versions[2, 1, sample] == ((4, TOKENS),)
        rollout = rig.link.kept[1, 1, sample]
        wanted = logprobs_by(rig.policy, rollout)[before:]
        np.testing.assert_allclose(rollout.behaviour_logprobs[before:], wanted, atol=1e-4, rtol=0)
    assert rig.exchange.calls == ["next_batch", "trained", "next_batch"]
    assert rig.link.reports[-1].policy_version == 4


def test_a_step_that_was_skipped_makes_no_version(rig):
    rig.grant(1)
    rig.wait_for(5)
    rig.colocated.skip("loss is not finite")
    rig.wait_for(TOKENS + 5)
    assert set(rig.versions().values()) == {((0, TOKENS),)}
    assert rig.exchange.calls[1] == "skip loss is not finite"
    assert rig.colocated.counts() == {"trained": 3}


def test_nothing_is_generated_and_nobody_is_heard_while_it_trains(rig):
    rig.grant(1)
    rig.wait_for(5)
    turns, reports = len(rig.link.was_training), len(rig.link.reports)
    rig.grant(2)
    rig.train()
    assert rig.policy.model.training
    rig.colocated.trained()
    rig.colocated.counts()
    assert len(rig.link.inbox) == 1
    assert (len(rig.link.was_training), len(rig.link.reports)) == (turns, reports)
    assert rig.link.kept == {}


def test_the_model_is_in_evaluation_mode_in_the_actors_turns_alone(rig):
    rig.grant(1)
    for ask in ("next_batch", "evaluate"):
        rig.wait_for(3, ask)
        assert rig.policy.model.training
    assert len(rig.link.was_training) > 6
    assert not any(rig.link.was_training)


@pytest.mark.parametrize("ask", ["next_batch", "evaluate"])
@pytest.mark.parametrize("failure", [RunStopped("no progress"), ValueError("a bug")])
def test_what_the_exchange_raises_reaches_who_waits(rig, ask, failure):
    rig.grant(1)
    rig.link.turns = deque([lambda: None, lambda: rig.answer(failure)])
    with pytest.raises(type(failure), match=str(failure)):
        getattr(rig.colocated, ask)()
    assert rig.policy.model.training


def test_the_end_of_its_link_ends_the_run(rig):
    def end():
        rig.link.ended = Ended(2, "the learner refused this actor")

    rig.grant(1)
    rig.link.turns = deque([lambda: None, end])
    with pytest.raises(RunStopped, match="colocated actor has ended: the learner refused"):
        rig.colocated.next_batch()
    assert rig.policy.model.training


def test_a_signal_in_the_midst_of_a_turn_ends_the_wait(rig):
    def stop(number, frame):
        raise RunStopped("told to end")

    rig.grant(1)
    rig.link.turns = deque([*[lambda: None] * 3, lambda: signal.raise_signal(signal.SIGTERM)])
    before = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(RunStopped, match="told to end"):
            rig.colocated.next_batch()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert rig.policy.model.training
    rig.exchange.answers.put(RunStopped("the exchange is closed"))
    cast(Any, rig.colocated)._waiter.shutdown(wait=True)  # as Python does at its end


# --- where nothing may change in flight --------------------------------------------------------


@pytest.mark.parametrize(
    "sections",
    [
        {"learner": SYNCHRONOUS, "generation": {"in_flight_weight_updates": False}},
        {"learner": SYNCHRONOUS, "run": {"deterministic": True}},
        {"learner": STALE},
    ],
    ids=["not in flight", "deterministic", "in flight, evaluating"],
)
def test_what_cannot_end_under_its_version_is_given_back(make_rig, sections):
    rig = make_rig(**sections)
    purpose = "evaluation" if sections["learner"] is STALE else "train"
    rig.grant(1, purpose=purpose)
    rig.wait_for(5)
    rig.train()
    rig.colocated.trained()
    rig.grant(1, attempt=2, purpose=purpose, policy_version=1)
    rig.wait_for(TOKENS + 5)
    failed = [message for _, message in rig.link.sent if isinstance(message, LeaseFailed)]
    # and with what was begun, what waited behind it
    assert {(m.run_epoch, m.group_id, m.attempt) for m in failed} == {(1, 1, 1), (1, 1, 2)}
    assert (Channel.CONTROL, failed[0]) in rig.link.sent
    rig.grant(1, attempt=3, purpose=purpose, policy_version=1)
    rig.wait_for(TOKENS + 5)
    found = rig.versions()
    assert {attempt for _, attempt, _ in found} == {3}
    assert set(found.values()) == {((1, TOKENS),)}
    for rollout in rig.link.kept.values():
        wanted = logprobs_by(rig.policy, rollout)
        np.testing.assert_allclose(rollout.behaviour_logprobs, wanted, atol=1e-4, rtol=0)


def test_what_was_cancelled_meanwhile_is_not_given_back_again(make_rig):
    rig = make_rig(learner=SYNCHRONOUS, run={"deterministic": True})
    rig.grant(1)
    rig.wait_for(5)
    rig.say(LeaseCancel(group_id=1, attempt=1, reason="deadline"))
    rig.colocated.trained()
    rig.wait_for(3)
    assert rig.link.sent == []
    assert rig.link.reports[-1].policy_version == 1


# --- the process -------------------------------------------------------------------------------


def test_the_learners_limits_on_memory_stay(make_rig, monkeypatch):
    limits = []
    monkeypatch.setattr("actors.worker.limit_memory", lambda **given: limits.append(given))
    metal = {
        "wired_limit_bytes": 1,
        "learner_cache_bytes": 2,
        "actor_cache_bytes": 3,
        "actor_memory_bytes": 4,
    }
    make_rig(metal=metal).wait_for(1)
    assert limits == [{"wired_bytes": 1, "cache_bytes": 2, "memory_bytes": 0}]


@pytest.mark.parametrize(
    ("bind", "host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("*", "127.0.0.1"),
        ("::", "127.0.0.1"),
        ("::1", "[::1]"),
        ("10.0.0.7", "10.0.0.7"),
    ],
)
def test_it_dials_where_its_own_process_listens(make_rig, bind, host):
    rig = make_rig(network={"bind": bind, "port": 4321, "insecure": True})
    assert rig.link.address == f"tcp://{host}:4321"
