"""The actor's loop: leases in, weights in, one decode step, finished rollouts out."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from actors.completion import Completion
from actors.engine import Engine
from actors.fetch_thread import Fetcher, FetchThread
from actors.make_engine import make_engine
from actors.prepared import Prepared
from actors.weights_source import source_of
from protocol.config import RunConfig
from protocol.errors import ConfigError, RunStopped, WeightsError
from protocol.messages import (
    HeartbeatAck,
    LeaseCancel,
    LeaseFailed,
    LeaseGrant,
    LeaseProgress,
    Message,
    Notice,
    Rollout,
    Welcome,
)
from protocol.peer import Ended, PeerStatus
from protocol.policy import Policy, frozen_arrays, limit_memory, load_policy
from protocol.process import this_host
from protocol.telemetry import log_to_file
from protocol.transport import Channel
from protocol.weights import combined_digest
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

    def route(self, channel: Channel, take: Callable[[Received], None]) -> None:
        """Hand the messages of a channel to `take`, in the link's thread."""
        ...

    def wake(self) -> None:
        """Let `receive` return."""
        ...


class Actor:
    """One actor: a policy copy at one verified version, an engine, a link.

    Args:
        peer: this actor's name.
        link: the learner.
        load: makes the policy that a config names.
        clock: monotonic seconds.
        fetch_thread: makes what fetches weights.
        has_log: it writes a log of its own into a run folder on this host.
    """

    def __init__(
        self,
        peer: str,
        link: Link,
        load: Callable[[RunConfig], Policy] = load_policy,
        clock: Callable[[], float] = time.monotonic,
        fetch_thread: Callable[..., Fetcher] = FetchThread,
        *,
        has_log: bool = True,
    ) -> None:
        self._peer = peer
        self._link = link
        self._load = load
        self._clock = clock
        self._fetch_thread = fetch_thread
        self._has_log = has_log
        self._fetch: Fetcher | None = None
        self._pending: Prepared | None = None
        """A newer version that waits for its time."""
        self._config: RunConfig | None = None
        self._policy: Policy | None = None
        self._engine: Engine | None = None
        self._base_digest = ""
        self._run_epoch = -1
        self._version = -1
        self._status = PeerStatus("starting", -1, 0)
        self._reported_at = float("-inf")
        self._evaluations: dict[tuple[int, int], int] = {}
        """The version that each evaluation lease in hand needs, by (group, attempt)."""
        self._started_at = clock()
        self._busy_seconds = self._switch_seconds = 0.0

    @property
    def has_begun(self) -> bool:
        """The learner has said what to do, and the engine is made."""
        return self._engine is not None

    def run(self) -> int:
        """Work until the run ends; returns the exit code."""
        try:
            while self._link.ended is None:
                self.turn()
        finally:
            if self._fetch is not None:
                self._fetch.close()
        return self._link.ended.exit_code

    def turn(self) -> None:
        """Take what arrived, switch weights, decode one step."""
        busy = self._engine is not None and not self._engine.idle and self._version >= 0
        at_once = busy or self._pending is not None
        received = self._link.receive(0.0 if at_once else IDLE_SECONDS)
        began_at = self._clock()
        while received is not None:
            self._handle(received)
            received = self._link.receive(0.0)
        if self._engine is not None:
            admit = self._switch(self._engine)
            had_work = not self._engine.idle and self._version >= 0
            self._finish(self._engine, self._engine.step(admit=admit))
            if had_work:
                self._busy_seconds += self._clock() - began_at
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
            case HeartbeatAck():
                if self._fetch is not None:
                    self._fetch.want(message.run_epoch, message.policy_version)
            case Notice():  # one that came before notices were routed
                if self._fetch is not None:
                    self._fetch.put(received)
            case _:
                log.warning("did not expect a %s", type(message).__name__)

    def _begin(self, welcome: Welcome) -> None:
        """Load the policy on the first welcome; drop what belongs to an older run epoch."""
        config = RunConfig.model_validate_json(welcome.config)
        if self._config not in (None, config):
            raise RunStopped("the learner came back with another config: starting anew")
        if self._config is None:
            self._config = config
            if self._has_log and _is_here(welcome):
                log_to_file(Path(welcome.run_dir, "logs", f"{self._peer}.log"))
            self._make_engine(self._config)
            self._fetch = self._start_fetch(self._config, welcome)
        assert self._engine is not None
        assert self._fetch is not None
        if welcome.run_epoch != self._run_epoch:
            self._engine.clear()
            self._evaluations.clear()
            self._fetch.reset(welcome.run_epoch)
            self._run_epoch, self._version, self._pending = welcome.run_epoch, -1, None
        self._fetch.want(welcome.run_epoch, welcome.policy_version)

    def _start_fetch(self, config: RunConfig, welcome: Welcome) -> Fetcher:
        assert self._policy is not None
        publish = config.learner.publish
        fetch = self._fetch_thread(
            self._peer,
            lambda message: self._link.send(Channel.WEIGHTS, message),
            self._link.wake,
            source_of(welcome, config),
            keep_base=config.learner.tuning != "lora" and publish.kind in ("auto", "delta"),
            compute_dtype=self._policy.compute_dtype,
            clock=self._clock,
        )
        fetch.start()
        self._link.route(Channel.WEIGHTS, fetch.put)
        self._link.route(Channel.NOTICE, fetch.put)
        return fetch

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
        self._engine = make_engine(self._policy, config, self._clock)

    def _take_leases(self, grant: LeaseGrant) -> None:
        if grant.run_epoch != self._run_epoch or self._engine is None:
            return
        for lease in grant.leases:
            if (lease.group_id, lease.attempt) not in self._engine.progress():
                self._engine.add(lease)
                if lease.purpose == "evaluation":
                    self._evaluations[lease.group_id, lease.attempt] = lease.policy_version

    def _switch(self, engine: Engine) -> bool:
        """Apply a newer version if it is here and the time is right.

        Returns:
            Whether waiting groups may be begun now.
        """
        assert self._config is not None
        assert self._fetch is not None
        self._pending = self._fetch.take() or self._pending
        if self._pending is None:
            return self._version >= 0
        if self._is_evaluating(engine):
            return True
        generation = self._config.generation
        in_flight = generation.in_flight_weight_updates and not self._config.run.deterministic
        if engine.decoding and not in_flight:
            return False
        pending, self._pending = self._pending, None
        began_at = self._clock()
        try:
            self._apply(pending)
        except WeightsError as error:
            log.warning("version %d refused: %s", pending.manifest.policy_version, error)
            return self._version >= 0
        engine.policy_version = self._version = pending.manifest.policy_version
        if engine.decoding:
            engine.weights_changed()
        self._switch_seconds = self._clock() - began_at
        return True

    def _is_evaluating(self, engine: Engine) -> bool:
        """Leases are in hand that need the very version that is held."""
        if self._evaluations:
            live = engine.progress()
            self._evaluations = {k: v for k, v in self._evaluations.items() if k in live}
        return any(version <= self._version for version in self._evaluations.values())

    def _apply(self, prepared: Prepared) -> None:
        assert self._policy is not None
        manifest = prepared.manifest
        if manifest.base_digest != self._base_digest:
            raise ConfigError(
                "this machine's copy of the model differs from the learner's (digest "
                f"{self._base_digest[:8]}, wanted {manifest.base_digest[:8]}): fetch it anew"
            )
        self._policy.apply(prepared.weights())

    def _finish(self, engine: Engine, completions: Sequence[Completion]) -> None:
        """Hand rollouts over; one that no message can carry ends its attempt."""
        failed: set[tuple[int, int]] = set()
        for completion in completions:
            if completion.attempt in failed:
                continue
            try:
                rollout = self._rollout(completion)
            except ValidationError as error:
                failed.add(completion.attempt)
                reason = error.errors(include_url=False, include_input=False)[0]["msg"]
                self._give_up(engine, *completion.attempt, reason)
            else:
                self._link.keep((*completion.attempt, completion.sample), rollout)

    def _give_up(self, engine: Engine, group_id: int, attempt: int, reason: str) -> None:
        log.warning("group %d attempt %d failed: %s", group_id, attempt, reason)
        engine.cancel(group_id, attempt)
        failed = LeaseFailed(
            run_epoch=self._run_epoch, group_id=group_id, attempt=attempt, reason=reason
        )
        self._link.send(Channel.CONTROL, failed)

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
            policy_versions=tuple(completion.policy_versions),
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
            self._metrics(self._engine),
            self._run_epoch,
        )
        self._link.report(self._status, now=switched)

    def _metrics(self, engine: Engine) -> dict[str, float]:
        assert self._fetch is not None
        return {
            "tokens_sampled": float(engine.tokens_sampled),
            "completions": float(engine.num_decoding),
            "groups": float(len(self._status.progress)),
            "busy_seconds": self._busy_seconds,
            "alive_seconds": self._clock() - self._started_at,
            "switch_seconds": self._switch_seconds,
            **self._fetch.metrics(),
        }

    def _state(self, engine: Engine) -> str:
        if self._pending is not None or self._version < 0:
            return "waiting for weights"
        return "idle" if engine.idle else "generating"


def _is_here(welcome: Welcome) -> bool:
    """Whether the run folder is one that this process can look into."""
    if welcome.host != this_host():
        return False
    try:
        return Path(welcome.run_dir).is_dir()
    except (OSError, ValueError):  # another user's, or no path at all
        return False


def _capacity(config: RunConfig) -> int:
    """Completions to hold at once.

    A deterministic run decodes one group at a time: what is more than the next one would wait
    without progress, and its lease would run out.
    """
    rows = config.generation.max_sequences
    return min(rows, 2 * config.generation.group_size) if config.run.deterministic else rows
