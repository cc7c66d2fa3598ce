"""The actor's loop: leases in, weights in, one decode step, finished rollouts out."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from actors.engine import Completion, Engine
from actors.fetch import Fetched, WeightsFetch
from protocol.config import RunConfig
from protocol.errors import ConfigError, RunStopped, WeightsError
from protocol.messages import (
    Chunk,
    HeartbeatAck,
    LeaseCancel,
    LeaseFailed,
    LeaseGrant,
    LeaseProgress,
    Manifest,
    Message,
    Notice,
    Rollout,
    WeightsGone,
    Welcome,
)
from protocol.peer import Ended, PeerStatus
from protocol.policy import Policy, frozen_arrays, limit_memory, load_policy
from protocol.process import this_host
from protocol.telemetry import log_to_file
from protocol.transport import Channel
from protocol.weights import combined_digest, unpack
from protocol.wire import Received

log = logging.getLogger("actors.worker")

IDLE_SECONDS = 0.2
REPORT_SECONDS = 0.2


class Link(Protocol):
    """What the actor needs of its link to the learner."""

    ended: Ended | None

    def receive(self, timeout_seconds: float) -> Received | None:
        """Next message, or None when none came in time."""
        ...

    def report(self, status: PeerStatus, *, now: bool = False) -> None:
        """Replace what heartbeats say."""
        ...

    def send(self, channel: Channel, message: Message) -> None:
        """Send once."""
        ...

    def keep(self, key: tuple[int, int, int], message: Message) -> None:
        """Send until acked."""
        ...


class Actor:
    """One actor: a policy copy at one verified version, an engine, a link.

    Args:
        peer: this actor's name.
        link: the learner.
        load: makes the policy that a config names.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        peer: str,
        link: Link,
        load: Callable[[RunConfig], Policy] = load_policy,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._peer = peer
        self._link = link
        self._load = load
        self._clock = clock
        self._fetch = WeightsFetch(peer, lambda message: link.send(Channel.WEIGHTS, message), clock)
        self._config: RunConfig | None = None
        self._policy: Policy | None = None
        self._engine: Engine | None = None
        self._base_digest = ""
        self._run_epoch = -1
        self._version = -1
        self._status = PeerStatus("starting", -1, 0)
        self._reported_at = float("-inf")

    def run(self) -> int:
        """Work until the run ends; returns the exit code."""
        while self._link.ended is None:
            self.turn()
        return self._link.ended.exit_code

    def turn(self) -> None:
        """Take what arrived, switch weights at a safe point, decode one step."""
        busy = self._engine is not None and not self._engine.idle and self._version >= 0
        received = self._link.receive(0.0 if busy else IDLE_SECONDS)
        while received is not None:
            self._handle(received)
            received = self._link.receive(0.0)
        self._fetch.tick()
        if self._engine is not None:
            self._switch_at_safe_point(self._engine)
            admit = self._version >= 0 and self._fetch.fetched is None
            for completion in self._engine.step(admit=admit):
                self._finish(self._engine, completion)
        self._report()

    def _handle(self, received: Received) -> None:
        message = received.message
        match message:
            case Welcome():
                self._begin(message)
            case LeaseGrant():
                self._take_leases(message)
            case LeaseCancel():
                if self._engine is not None:
                    self._engine.cancel(message.group_id, message.attempt)
            case HeartbeatAck() | Notice():
                if message.run_epoch == self._run_epoch:
                    self._fetch.want(message.policy_version, self._version)
            case Manifest():
                self._take_manifest(message)
            case Chunk():
                self._fetch.on_chunk(message, received.raw)
            case WeightsGone():
                self._fetch.on_gone(message)
            case _:
                log.warning("did not expect a %s", type(message).__name__)

    def _take_manifest(self, manifest: Manifest) -> None:
        try:
            self._fetch.on_manifest(manifest)
        except WeightsError as error:
            log.warning("manifest of version %d refused: %s", manifest.policy_version, error)

    def _begin(self, welcome: Welcome) -> None:
        """Load the policy on the first welcome; drop what belongs to an older run epoch."""
        config = RunConfig.model_validate_json(welcome.config)
        if self._config not in (None, config):
            raise RunStopped("the learner came back with another config: starting anew")
        if self._config is None:
            self._config = config
            if welcome.host == this_host() and Path(welcome.run_dir).is_dir():
                log_to_file(Path(welcome.run_dir, "logs", f"{self._peer}.log"))
            self._make_engine(self._config)
        if welcome.run_epoch != self._run_epoch:
            assert self._engine is not None
            self._engine.clear()
            self._fetch.reset()
            self._run_epoch, self._version = welcome.run_epoch, -1
        self._fetch.want(welcome.policy_version, self._version)

    def _make_engine(self, config: RunConfig) -> None:
        self._link.report(PeerStatus("loading the model", -1, 0), now=True)
        limit_memory(
            wired_bytes=config.metal.wired_limit_bytes,
            cache_bytes=config.metal.actor_cache_bytes,
            memory_bytes=config.metal.actor_memory_bytes,
        )
        self._policy = self._load(config)
        self._policy.model.eval()
        self._base_digest = combined_digest(frozen_arrays(self._policy))
        self._engine = Engine(
            self._policy.model,
            self._policy.stop_ids(),
            max_sequences=config.generation.max_sequences,
            recycle_tokens=config.generation.recycle_tokens,
            lockstep=config.run.deterministic,
            clock=self._clock,
        )

    def _take_leases(self, grant: LeaseGrant) -> None:
        if grant.run_epoch != self._run_epoch or self._engine is None:
            return
        for lease in grant.leases:
            if (lease.group_id, lease.attempt) not in self._engine.progress():
                self._engine.add(lease)

    def _switch_at_safe_point(self, engine: Engine) -> None:
        """Apply a fetched version once nothing is being decoded under the old one."""
        if self._fetch.fetched is None or engine.decoding:
            return
        fetched = self._fetch.take()
        assert fetched is not None
        try:
            self._apply(fetched)
        except WeightsError as error:
            log.warning("version %d refused: %s", fetched.manifest.policy_version, error)
            return
        engine.policy_version = self._version = fetched.manifest.policy_version
        self._fetch.want(self._version, self._version)

    def _apply(self, fetched: Fetched) -> None:
        assert self._policy is not None
        manifest = fetched.manifest
        if manifest.run_epoch != self._run_epoch:
            raise WeightsError(f"it is of run epoch {manifest.run_epoch}")
        if manifest.base_digest != self._base_digest:
            raise ConfigError(
                "this machine's copy of the model differs from the learner's (digest "
                f"{self._base_digest[:8]}, wanted {manifest.base_digest[:8]}): fetch it anew"
            )
        self._policy.apply(unpack(manifest.tensors, fetched.data))

    def _finish(self, engine: Engine, completion: Completion) -> None:
        """Hand a rollout over; one that no message can carry ends its attempt."""
        lease = completion.lease
        try:
            rollout = self._rollout(completion)
        except ValidationError as error:
            reason = error.errors(include_url=False, include_input=False)[0]["msg"]
            log.warning("group %d attempt %d failed: %s", lease.group_id, lease.attempt, reason)
            engine.cancel(lease.group_id, lease.attempt)
            failed = LeaseFailed(
                run_epoch=self._run_epoch,
                group_id=lease.group_id,
                attempt=lease.attempt,
                reason=reason,
            )
            self._link.send(Channel.CONTROL, failed)
            return
        self._link.keep((lease.group_id, lease.attempt, completion.sample), rollout)

    def _rollout(self, completion: Completion) -> Rollout:
        assert self._policy is not None
        assert completion.finish_reason is not None
        lease = completion.lease
        return Rollout(
            run_epoch=self._run_epoch,
            group_id=lease.group_id,
            attempt=lease.attempt,
            sample=completion.sample,
            token_ids=completion.token_ids,  # pyright: ignore[reportArgumentType]
            behaviour_logprobs=completion.behaviour_logprobs,  # pyright: ignore[reportArgumentType]
            policy_versions=((completion.policy_version, len(completion.token_ids)),),
            finish_reason=completion.finish_reason,
            completion=self._policy.tokenizer.decode(
                completion.token_ids, skip_special_tokens=True
            ),
            seconds=completion.seconds,
        )

    def _report(self) -> None:
        """Refresh what heartbeats say, and send one at once when the version has changed."""
        if self._engine is None or self._config is None:
            return
        held = (self._run_epoch, self._version)
        switched = held != (self._status.run_epoch, self._status.policy_version)
        if not switched and self._clock() - self._reported_at < REPORT_SECONDS:
            return
        self._reported_at = self._clock()
        self._status = PeerStatus(
            self._state(self._engine),
            self._version,
            _capacity(self._config),
            tuple(
                LeaseProgress(group_id=group, attempt=attempt, tokens=tokens)
                for (group, attempt), tokens in self._engine.progress().items()
            ),
            {"tokens_sampled": float(self._engine.tokens_sampled)},
            self._run_epoch,
        )
        self._link.report(self._status, now=switched)

    def _state(self, engine: Engine) -> str:
        if self._fetch.fetched is not None or self._version < 0:
            return "waiting for weights"
        return "idle" if engine.idle else "generating"


def _capacity(config: RunConfig) -> int:
    """Completions to hold at once.

    A deterministic run decodes one group at a time: what is more than the next one would wait
    without progress, and its lease would run out.
    """
    rows = config.generation.max_sequences
    return min(rows, 2 * config.generation.group_size) if config.run.deterministic else rows
