from collections import deque
from typing import Any, cast

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from actors.fetch import RETRY_SECONDS
from actors.fetch_thread import FetchThread
from actors.worker import Actor
from protocol.errors import ConfigError, RunStopped
from protocol.messages import (
    Chunk,
    ChunkRequest,
    HeartbeatAck,
    LeaseCancel,
    LeaseFailed,
    LeaseGrant,
    Manifest,
    ManifestRequest,
    Notice,
    Rollout,
    Score,
    WeightsGone,
    Welcome,
)
from protocol.peer import Ended
from protocol.policy import frozen_arrays, load_policy, logits, token_logprobs
from protocol.transport import Channel
from protocol.weights import combined_digest, pack
from protocol.wire import Buffer, Received

CHUNK_BYTES = 2**16
NO_BASE = combined_digest([])


def parameters(tree) -> dict[str, Any]:
    return dict(cast(Any, tree_flatten(tree)))


class InlineFetch(FetchThread):
    """Does its work when the actor looks for a version: no thread, no race."""

    def start(self):
        pass

    def take(self):
        while not self._jobs.empty():
            self._turn(0.0)
        self._turn(0.0)
        return super().take()


class FakeLink:
    def __init__(self):
        self.routes = {}
        self.woken = 0
        self.ended: Ended | None = None
        self.inbox: deque[Received] = deque()
        self.sent = []
        self.kept: dict[tuple[int, int, int], Rollout] = {}
        self.reports = []
        self.waits = []

    def receive(self, timeout_seconds):
        self.waits.append(timeout_seconds)
        return self.inbox.popleft() if self.inbox else None

    def report(self, status, *, now=False):
        self.reports.append((status, now))

    def send(self, channel, message):
        self.sent.append((channel, message))

    def route(self, channel, take):
        self.routes[channel] = take

    def wake(self):
        self.woken += 1

    def keep(self, key, message):
        assert key not in self.kept, f"rollout {key} was handed over twice"
        assert key == (message.group_id, message.attempt, message.sample)
        self.kept[key] = message


class Rig:
    """An actor with a real policy; the test is the learner, turn by turn."""

    def __init__(self, config):
        self.link = FakeLink()
        self.now = 50.0
        self.loads = 0
        self.policy = load_policy(config)
        self.config = config
        self.actor = Actor("actor-1", self.link, self._load, lambda: self.now, InlineFetch)
        self.versions: dict[int, tuple[Manifest, memoryview]] = {}

    def _load(self, config):
        self.loads += 1
        return self.policy

    def say(self, message, raw: Buffer = b""):
        channel = Channel.CONTROL
        if isinstance(message, Manifest | Chunk | WeightsGone):
            channel = Channel.WEIGHTS
        elif isinstance(message, Notice):
            channel = Channel.NOTICE
        self.link.routes.get(channel, self.link.inbox.append)(Received(message, raw))

    def welcome(self, version=0, run_epoch=1):
        config = self.config.model_dump_json()
        self.say(
            Welcome(
                run_id="run-1",
                run_epoch=run_epoch,
                policy_version=version,
                config=config,
                host="elsewhere",
                run_dir="/nowhere",
            )
        )

    def publish(self, version, run_epoch=1, base_digest=NO_BASE, shift=0.0):
        """Make `version` the newest: the builtin weights, each moved by `shift`."""
        held = parameters(load_policy(self.config).model.trainable_parameters())
        packed = pack((name, (held[name] + shift).astype(mx.bfloat16)) for name in sorted(held))
        manifest = Manifest(
            run_epoch=run_epoch,
            policy_version=version,
            kind="full",
            digest=packed.digest,
            weights_digest=packed.digest,
            base_digest=base_digest,
            tensors=packed.tensors,
            chunk_bytes=CHUNK_BYTES,
            total_bytes=len(packed.data),
        )
        self.versions = {version: (manifest, packed.data)}

    def asked(self, kind):
        found = [message for channel, message in self.link.sent if isinstance(message, kind)]
        self.link.sent = [pair for pair in self.link.sent if not isinstance(pair[1], kind)]
        return found

    def answer(self, damage=False):
        """Answer what the actor asked of the weights channel; False where it asked nothing."""
        manifest_requests = self.asked(ManifestRequest)
        for _ in manifest_requests:
            self.say(next(iter(self.versions.values()))[0])
        requests = self.asked(ChunkRequest)
        for request in requests:
            manifest, data = self.versions.get(request.policy_version, (None, b""))
            if manifest is None or manifest.digest != request.digest:
                self.say(WeightsGone(policy_version=request.policy_version))
                continue
            raw = bytearray(data[request.index * CHUNK_BYTES : (request.index + 1) * CHUNK_BYTES])
            raw[0] ^= damage
            chunk = Chunk(
                policy_version=request.policy_version, digest=request.digest, index=request.index
            )
            self.say(chunk, raw)
        return bool(manifest_requests or requests)

    def fetch(self, damage=False):
        """Let the actor fetch until it asks for nothing more."""
        self.actor.turn()
        while self.answer(damage):
            self.actor.turn()

    def grant(self, *leases, run_epoch=1):
        self.say(LeaseGrant(run_epoch=run_epoch, leases=leases))

    def turns(self, count):
        for _ in range(count):
            self.actor.turn()

    def status(self):
        self.now += 1.0
        self.actor.turn()
        return self.link.reports[-1][0]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MLX_RL_CACHE", str(tmp_path))


@pytest.fixture
def make_rig(run_config):
    def make(generation=None, **sections):
        fields = {"max_completion_tokens": 16, "max_sequences": 8, **(generation or {})}
        rig = Rig(run_config(policy={"compute_dtype": "float32"}, generation=fields, **sections))
        rig.policy.tokenizer.eos_token_ids.clear()  # completions of known lengths
        assert not rig.policy.stop_ids()
        return rig

    return make


@pytest.fixture
def rig(make_rig):
    return make_rig()


@pytest.fixture
def ready(rig):
    return with_version_0(rig)


def with_version_0(rig):
    """An actor that holds version 0 of epoch 1."""
    rig.welcome()
    rig.publish(0)
    rig.fetch()
    return rig


def test_before_any_welcome_it_waits_and_asks_for_nothing(rig):
    rig.turns(3)
    assert rig.link.sent == [] and rig.link.reports == [] and rig.loads == 0
    assert min(rig.link.waits) >= 0.0 and max(rig.link.waits) > 0.0


def test_a_welcome_loads_the_model_once_and_asks_for_the_weights(rig):
    rig.welcome(version=4)
    rig.actor.turn()
    rig.welcome(version=4)  # said hello twice
    rig.actor.turn()
    assert rig.loads == 1
    assert rig.link.sent == [
        (Channel.WEIGHTS, ManifestRequest(peer="actor-1", held_version=-1)),
    ]
    assert rig.link.reports[0] == (rig.link.reports[0][0]._replace(state="loading the model"), True)


def test_weights_are_applied_and_reported_only_once_their_digest_matched(rig):
    rig.welcome(version=4)
    rig.publish(4, shift=0.25)
    before = parameters(rig.policy.model.parameters())
    rig.fetch(damage=True)
    after = parameters(rig.policy.model.parameters())
    assert all(mx.array_equal(before[name], after[name]) for name in before)
    status = rig.link.reports[-1][0]
    assert (status.state, status.policy_version) == ("waiting for weights", -1)
    rig.now += RETRY_SECONDS
    rig.fetch()
    status, now = rig.link.reports[-1]
    assert (status.policy_version, status.capacity, now) == (4, 8, True)
    name = "model.embed_tokens.weight"
    held = parameters(load_policy(rig.config).model.parameters())[name]
    found = parameters(rig.policy.model.parameters())[name]
    wanted = (held + 0.25).astype(mx.bfloat16).astype(mx.float32)
    assert mx.array_equal(found, wanted)


def test_a_lease_that_arrives_before_any_weights_waits_for_them(rig, make_lease):
    rig.welcome(version=4)
    rig.publish(4)
    rig.actor.turn()
    rig.grant(make_lease(1, max_completion_tokens=2))
    rig.link.waits.clear()
    rig.turns(5)
    assert rig.link.kept == {}
    assert sum(wait > 0.0 for wait in rig.link.waits) == 5  # waiting does not spin
    rig.fetch()
    rig.turns(3)
    assert {r.policy_versions for r in rig.link.kept.values()} == {((4, 2),)}
    assert set(rig.link.kept) == {(1, 1, 0), (1, 1, 1)}


def test_rollouts_carry_what_was_sampled(ready, make_lease):
    lease = make_lease(7, (7, 8, 9), 3, attempt=2, max_completion_tokens=5)
    ready.grant(lease)
    ready.turns(8)
    assert set(ready.link.kept) == {(7, 2, 0), (7, 2, 1), (7, 2, 2)}
    for rollout in ready.link.kept.values():
        tokens = rollout.token_ids.tolist()
        assert rollout.run_epoch == 1
        assert rollout.policy_versions == ((0, len(tokens)),)
        assert (len(tokens), rollout.finish_reason) == (5, "length")
        text = ready.policy.tokenizer.decode(tokens, skip_special_tokens=True)
        assert rollout.completion == text
        logits_TV = logits(ready.policy.model, mx.array([[7, 8, 9, *tokens[:-1]]]))[0, 2:]
        wanted = np.array(token_logprobs(logits_TV, mx.array(tokens), lease.temperature))
        np.testing.assert_allclose(rollout.behaviour_logprobs, wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("why", ["in_flight_weight_updates", "deterministic"])
def test_what_was_begun_ends_under_its_version_where_nothing_is_switched_in_flight(
    make_rig, make_lease, why
):
    if why == "deterministic":
        rig = make_rig(run={"deterministic": True}, learner={"max_off_policy_steps": 0})
    else:
        rig = make_rig({"in_flight_weight_updates": False})
    ready = with_version_0(rig)
    ready.grant(make_lease(1, max_completion_tokens=16))
    ready.turns(2)
    ready.publish(1, shift=0.125)
    ready.say(Notice(run_id="run-1", run_epoch=1, policy_version=1, digest=""))
    ready.fetch()
    ready.grant(make_lease(2, max_completion_tokens=3))
    status = ready.status()
    assert (status.state, status.policy_version) == ("waiting for weights", 0)
    assert {(p.group_id, p.tokens > 0) for p in status.progress} == {(1, True), (2, False)}
    ready.turns(20)
    versions = {key[0]: rollout.policy_versions for key, rollout in ready.link.kept.items()}
    assert versions == {1: ((0, 16),), 2: ((1, 3),)}
    assert ready.status().policy_version == 1


def test_a_newer_version_is_switched_in_between_two_decode_steps(ready, make_lease):
    ready.grant(make_lease(1, max_completion_tokens=16))
    ready.turns(4)
    ready.publish(1, shift=0.125)
    ready.say(Notice(run_id="run-1", run_epoch=1, policy_version=1, digest=""))
    ready.fetch()
    ready.grant(make_lease(2, max_completion_tokens=3))
    status, now = next(pair for pair in ready.link.reports if pair[0].policy_version == 1)
    assert (status.state, now) == ("generating", True)  # and the learner hears of it at once
    ready.turns(20)
    versions = {key[0]: rollout.policy_versions for key, rollout in ready.link.kept.items()}
    (old, before), (new, after) = versions[1]
    assert (old, new, before + after) == (0, 1, 16)
    assert 0 < before < 16
    assert versions[2] == ((1, 3),)


def test_the_engine_is_told_of_weights_that_changed_while_it_decodes(ready, make_lease):
    told = []
    engine = ready.actor._engine
    engine.weights_changed = lambda: told.append(engine.policy_version)
    ready.publish(1)
    ready.say(HeartbeatAck(run_epoch=1, policy_version=1))
    ready.fetch()
    assert told == []  # nothing is being decoded
    ready.grant(make_lease(1, max_completion_tokens=16))
    ready.turns(2)
    ready.publish(2, shift=0.125)
    ready.say(HeartbeatAck(run_epoch=1, policy_version=2))
    ready.fetch()
    assert told == [2]


def test_no_version_is_switched_in_while_an_evaluation_needs_the_one_held(ready, make_lease):
    evaluation = {"purpose": "evaluation", "max_completion_tokens": 10, "policy_version": 0}
    ready.grant(make_lease(1, num_samples=8, **evaluation), make_lease(2, **evaluation))
    ready.turns(2)  # one of them fills the batch, the other one waits
    ready.publish(1, shift=0.125)
    ready.say(Notice(run_id="run-1", run_epoch=1, policy_version=1, digest=""))
    ready.fetch()
    assert ready.status().policy_version == 0
    versions_at_waits = []
    receive = ready.link.receive

    def noted(timeout_seconds):
        if timeout_seconds > 0:
            versions_at_waits.append(ready.actor._version)
        return receive(timeout_seconds)

    ready.link.receive = noted
    ready.turns(30)
    assert {r.policy_versions for r in ready.link.kept.values()} == {((0, 10),)}
    assert {key[0] for key in ready.link.kept} == {1, 2}
    assert ready.link.reports[-1][0].policy_version == 1
    assert set(versions_at_waits) == {1}  # it had nothing to wait for before it switched


def test_an_evaluation_that_needs_a_newer_version_does_not_hold_it_up(ready, make_lease):
    ready.publish(1)
    ready.grant(make_lease(1, purpose="evaluation", policy_version=1, max_completion_tokens=16))
    ready.say(HeartbeatAck(run_epoch=1, policy_version=1))
    ready.fetch()
    assert ready.status().policy_version == 1


def test_a_fetched_version_wakes_the_idle_actor(ready):
    before = ready.link.woken
    ready.publish(1)
    ready.say(HeartbeatAck(run_epoch=1, policy_version=1))
    ready.fetch()
    assert ready.link.woken == before + 1


def test_a_failure_of_the_fetch_ends_the_actor_with_its_reason(ready):
    ready.actor._fetch._failure = "fetching weights failed: OSError: no more descriptors"
    with pytest.raises(RunStopped, match="no more descriptors"):
        ready.actor.turn()


def test_heartbeats_say_what_was_fetched_and_how_busy_the_actor_was(ready, make_lease):
    ready.now += 5.0
    metrics = ready.status().metrics
    assert metrics["weights_fetched_bytes"] == len(ready.versions[0][1])
    assert (metrics["weights_mismatches"], metrics["busy_seconds"]) == (0.0, 0.0)
    assert metrics["alive_seconds"] == 6.0
    ready.grant(make_lease(1, num_samples=2, max_completion_tokens=3))
    sampler, engine = ready.actor._engine.step, ready.actor._engine

    def slow_step(**kwargs):
        ready.now += 0.5
        return sampler(**kwargs)

    engine.step = slow_step
    ready.turns(12)
    metrics = ready.status().metrics
    steps = metrics["busy_seconds"] / 0.5
    assert steps in (3.0, 4.0)  # and not the seconds without work
    assert metrics["tokens_sampled"] == 6.0


def test_an_acknowledged_heartbeat_tells_of_a_version_whose_notice_was_lost(ready):
    ready.publish(1)
    ready.say(HeartbeatAck(run_epoch=1, policy_version=1))
    ready.fetch()
    assert ready.status().policy_version == 1
    ready.say(HeartbeatAck(run_epoch=9, policy_version=5))  # of an epoch that no welcome began
    ready.turns(2)
    assert ready.asked(ManifestRequest) == []


def test_a_lease_that_is_repeated_is_generated_once(ready, make_lease):
    lease = make_lease(1, max_completion_tokens=6)
    ready.grant(lease, lease)
    ready.actor.turn()
    ready.grant(lease)
    ready.turns(10)  # FakeLink.keep refuses a second rollout of a sample
    assert set(ready.link.kept) == {(1, 1, 0), (1, 1, 1)}


def test_a_cancelled_attempt_is_not_reported(ready, make_lease):
    ready.grant(make_lease(1, (7, 8)), make_lease(2, (9, 10), max_completion_tokens=3))
    ready.actor.turn()
    ready.say(LeaseCancel(group_id=1, attempt=1, reason="stale"))
    ready.turns(12)
    assert set(ready.link.kept) == {(2, 1, 0), (2, 1, 1)}
    assert ready.status().progress == ()


def test_a_new_run_epoch_drops_leases_weights_and_the_version(ready, make_lease):
    ready.grant(make_lease(1, max_completion_tokens=16))
    ready.actor.turn()
    ready.publish(0, run_epoch=2, shift=0.125)
    ready.welcome(version=0, run_epoch=2)
    ready.grant(make_lease(2, max_completion_tokens=3), run_epoch=2)
    ready.actor.turn()
    status, now = ready.link.reports[-1]
    assert (status.policy_version, now) == (-1, True)
    assert {p.group_id for p in status.progress} == {2}
    ready.turns(5)
    assert ready.link.kept == {}  # version 0 of the old epoch generates nothing more
    ready.fetch()
    ready.turns(5)
    new = list(ready.link.kept.values())
    assert {(r.group_id, r.run_epoch, r.policy_versions[0][0]) for r in new} == {(2, 2, 0)}
    for rollout in new:  # under the new epoch's weights
        tokens = rollout.token_ids.tolist()
        logits_TV = logits(ready.policy.model, mx.array([[7, 8, 9, *tokens[:-1]]]))[0, 2:]
        wanted = np.array(token_logprobs(logits_TV, mx.array(tokens), 0.7))
        np.testing.assert_allclose(rollout.behaviour_logprobs, wanted, atol=1e-4, rtol=0)
    assert len(new) == 2


def test_a_new_run_epoch_is_told_at_once_though_there_was_no_version_to_lose(rig):
    rig.welcome(run_epoch=1)
    rig.actor.turn()
    assert rig.link.reports[-1][0].run_epoch == 1
    rig.welcome(run_epoch=2)
    rig.actor.turn()
    status, now = rig.link.reports[-1]
    assert (status.run_epoch, status.policy_version, now) == (2, -1, True)


def test_a_deterministic_run_holds_no_more_than_the_next_group(run_config, make_lease):
    config = run_config(
        run={"deterministic": True},
        learner={"max_off_policy_steps": 0},
        generation={"group_size": 3},
        policy={"compute_dtype": "float32"},
    )
    rig = Rig(config)
    rig.policy.tokenizer.eos_token_ids.clear()
    rig.welcome()
    rig.publish(0)
    rig.fetch()
    assert rig.status().capacity == 6
    rig.grant(make_lease(1, num_samples=3), make_lease(2, num_samples=3))
    rig.actor.turn()
    tokens = {p.group_id: p.tokens for p in rig.status().progress}
    assert tokens[1] > 0 and tokens[2] == 0  # a group has the batch to itself


def test_a_learner_that_comes_back_with_another_config_ends_the_actor(ready):
    generation = ready.config.generation.model_copy(update={"max_sequences": 3})
    ready.config = ready.config.model_copy(update={"generation": generation})
    ready.welcome(version=0, run_epoch=2)
    with pytest.raises(RunStopped, match="another config"):
        ready.actor.turn()


def test_a_new_run_epoch_drops_newer_weights_of_the_old_one(make_rig, make_lease):
    ready = with_version_0(make_rig({"in_flight_weight_updates": False}))
    ready.grant(make_lease(1, max_completion_tokens=16))
    ready.publish(7, shift=0.125)
    ready.say(HeartbeatAck(run_epoch=1, policy_version=7))
    ready.fetch()  # version 7 waits for the lease to end
    ready.publish(2, run_epoch=2)
    ready.welcome(version=2, run_epoch=2)
    ready.actor.turn()
    assert ready.link.reports[-1][0].policy_version == -1
    ready.fetch()
    assert ready.status().policy_version == 2
    ready.now += 2 * RETRY_SECONDS
    ready.turns(2)
    assert ready.asked(ManifestRequest) == []  # version 7 is not wanted any more


def test_leases_and_weights_of_another_epoch_are_not_taken(ready, make_lease):
    ready.grant(make_lease(1, max_completion_tokens=2), run_epoch=2)
    ready.publish(3, run_epoch=2)
    ready.say(HeartbeatAck(run_epoch=1, policy_version=3))
    for _ in range(6):
        ready.actor.turn()
        ready.answer()
    assert ready.link.kept == {}
    assert ready.status().policy_version == 0


def test_a_base_that_differs_from_the_learners_ends_the_actor(rig):
    rig.welcome()
    rig.publish(0, base_digest="0123456789abcdef")
    with pytest.raises(ConfigError, match="01234567"):
        rig.fetch()


def test_the_base_of_a_lora_policy_is_what_is_frozen(run_config):
    config = run_config(learner={"tuning": "lora"}, policy={"compute_dtype": "float32"})
    rig = Rig(config)
    rig.welcome()
    rig.publish(0, base_digest=combined_digest(frozen_arrays(load_policy(config))))
    rig.fetch()
    assert rig.status().policy_version == 0


def test_weights_of_another_model_are_refused_and_leases_go_on(ready, make_lease):
    ready.publish(1)
    manifest, data = ready.versions[1]
    renamed = [*manifest.tensors[:-1], manifest.tensors[-1].model_copy(update={"name": "other"})]
    ready.versions[1] = (manifest.model_copy(update={"tensors": tuple(renamed)}), data)
    ready.say(HeartbeatAck(run_epoch=1, policy_version=1))
    for _ in range(6):
        ready.actor.turn()
        ready.answer()
    assert ready.link.reports[-1][0].policy_version == 0


def test_a_manifest_that_does_not_add_up_is_survived(rig):
    rig.welcome()
    rig.publish(0)
    manifest, _ = rig.versions[0]
    rig.say(manifest.model_copy(update={"total_bytes": 5}))
    rig.turns(2)
    rig.asked(ManifestRequest)
    rig.now += RETRY_SECONDS
    rig.fetch()
    assert rig.status().policy_version == 0


def test_a_completion_with_numbers_that_are_not_finite_fails_its_attempt_alone(ready, make_lease):
    held = parameters(ready.policy.model.parameters())
    ready.policy.apply({name: array * float("nan") for name, array in held.items()})
    ready.grant(make_lease(1, num_samples=2, max_completion_tokens=1))
    ready.actor.turn()
    failed = ready.asked(LeaseFailed)
    assert {(f.run_epoch, f.group_id, f.attempt) for f in failed} == {(1, 1, 1)}
    assert "not finite" in failed[0].reason
    assert ready.link.kept == {}
    ready.policy.apply(held)
    ready.grant(make_lease(2, max_completion_tokens=2))
    ready.turns(3)
    assert {key[0] for key in ready.link.kept} == {2}


def test_a_message_meant_for_another_role_is_survived(ready):
    ready.say(
        Score(run_epoch=1, group_id=1, attempt=1, sample=0, reward=1.0, rewards=(), status="ok")
    )
    ready.turns(2)
    assert ready.status().state == "idle"


def test_it_works_until_the_link_ends_and_gives_its_exit_code(ready):
    turns = iter(range(100))

    def receive(timeout_seconds):
        if next(turns) == 5:
            ready.link.ended = Ended(3, "the learner says so")

    ready.link.receive = receive
    assert ready.actor.run() == 3
