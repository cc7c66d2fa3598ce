"""An actor inside the learner's process: it generates with the very weights that are trained.

One Mac has one GPU and one memory. Where both would wait for the GPU anyway, taking turns costs
little time and saves a whole process: the model is there once, a new version is there the moment
it is trained, and nothing is sent. The actor is a peer like any other, over loopback: leases,
acks and heartbeats are the same. This is the one place where `learner` knows `actors`.
"""

import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from actors.engine import Engine
from actors.prepared import Prepared
from actors.worker import Actor
from learner.loop import Exchange
from learner.samples import ScoredBatch, SuiteSamples
from protocol.config import RunConfig
from protocol.errors import RunStopped
from protocol.fingerprint import fingerprint
from protocol.messages import Hello, LeaseFailed, Manifest
from protocol.peer import PeerLink
from protocol.policy import Policy, frozen_arrays
from protocol.process import this_host
from protocol.transport import Channel, PeerSockets
from protocol.weights import combined_digest
from protocol.wire import Received

log = logging.getLogger("learner.colocated")

JOIN_SECONDS = 60.0
"""For the learner's own answer, and for the engine's checks of a large model."""

T = TypeVar("T")


class TrainedWeights:
    """In the place of a `FetchThread`: the learner's own policy, at the version that it is.

    Args:
        policy: that the learner trains.
        policy_version: that it begins with.
    """

    def __init__(self, policy: Policy, policy_version: int) -> None:
        self._policy = policy
        self._base_digest = combined_digest(frozen_arrays(policy))
        self._run_epoch = -1
        self._version = policy_version
        self._taken = -1

    def trained(self) -> None:
        """The policy has become the next version."""
        self._version += 1

    def start(self) -> None:
        """There is no thread."""

    def put(self, received: Received) -> None:
        """Nothing that comes by wire is needed."""

    def want(self, run_epoch: int, version: int) -> None:
        """What the learner announces is older than what it holds, or the same."""

    def reset(self, run_epoch: int) -> None:
        """Begin with a run epoch."""
        self._run_epoch, self._taken = run_epoch, -1

    def take(self) -> Prepared | None:
        """The version that the policy has become, once."""
        if self._taken == self._version:
            return None
        self._taken = self._version
        manifest = Manifest(
            run_epoch=self._run_epoch,
            policy_version=self._version,
            kind="full",
            digest="",
            base_digest=self._base_digest,
            tensors=(),
            chunk_bytes=1,
            total_bytes=0,
        )
        arrays = {name: (array, array.dtype) for name, array in self._policy.trained().items()}
        return Prepared(manifest, arrays)

    def metrics(self) -> dict[str, float]:
        """Nothing is fetched."""
        return {}

    def close(self) -> None:
        """There is no thread."""


class InPlaceActor(Actor):
    """An actor whose weights have changed already when it hears of it.

    Another one ends what it has begun with the version that it holds, where a version is not to
    change in flight; here that version is gone.
    """

    def _make_engine(self, config: RunConfig) -> None:
        metal = config.metal
        limits = {  # the process is the learner's
            "actor_cache_bytes": metal.learner_cache_bytes,
            "actor_memory_bytes": metal.learner_memory_bytes,
        }
        learners = metal.model_copy(update=limits)
        super()._make_engine(config.model_copy(update={"metal": learners}))

    def _switch(self, engine: Engine) -> bool:
        admit = super()._switch(engine)
        if self._pending is None:
            return admit
        for group_id, attempt in engine.progress():
            engine.cancel(group_id, attempt)
            failed = LeaseFailed(
                run_epoch=self._run_epoch,
                group_id=group_id,
                attempt=attempt,
                reason="its version was trained on before it ended",
            )
            self._link.send(Channel.CONTROL, failed)
        return super()._switch(engine)


class Colocated:
    """The exchange as the training loop sees it; while training waits, the actor works.

    Args:
        exchange: the real one; when it says goodbye to its peers, the actor ends as they do.
        policy: that is trained; in training mode but for the actor's turns.
        policy_version: that it begins with.
        config: the run.
        run_id: of this run.
    """

    def __init__(
        self,
        exchange: Exchange,
        policy: Policy,
        policy_version: int,
        config: RunConfig,
        run_id: str,
    ) -> None:
        self._exchange = exchange
        self._policy = policy
        self._weights = TrainedWeights(policy, policy_version)
        host, pid = this_host(), os.getpid()
        peer = f"actor-{host}-{pid}-{secrets.token_hex(2)}"
        hello = Hello(
            role="actor", peer=peer, host=host, pid=pid, run_id=run_id, fingerprint=fingerprint()
        )
        address = f"tcp://{_reachable(config.network.bind)}:{config.network.port}"
        self._link = PeerLink(hello, PeerSockets(address, peer), address)
        self._actor = InPlaceActor(
            peer,
            self._link,
            lambda _: policy,
            fetch_thread=lambda *_, **__: self._weights,
            has_log=False,
        )
        self._waiter = ThreadPoolExecutor(1, thread_name_prefix="waiting")

    def join(self) -> None:
        """Dial, and make what the actor needs before the first step begins; the exchange runs."""
        self._link.start()
        deadline = time.monotonic() + JOIN_SECONDS  # the first wait says what is wrong
        with self._in_evaluation_mode():
            while not (self._actor.has_begun or self._link.ended):
                if time.monotonic() >= deadline:
                    break
                self._actor.turn()

    def next_batch(self) -> ScoredBatch:
        """Wait for the next training batch, generating."""
        return self._generate_until(self._exchange.next_batch)

    def evaluate(self) -> SuiteSamples:
        """Complete and score every held-out prompt at the current version, generating."""
        return self._generate_until(self._exchange.evaluate)

    def trained(self) -> None:
        """Note that the batch in hand was trained on: the policy is a new version."""
        self._exchange.trained()
        self._weights.trained()
        self._link.wake()  # nothing comes by wire that would

    def skip(self, reason: str) -> None:
        """Give the batch in hand up."""
        self._exchange.skip(reason)

    def last_counts(self) -> Mapping[str, float]:
        """As the exchange says."""
        return self._exchange.last_counts()

    def counts(self) -> Mapping[str, float]:
        """Groups by state, what happened so far, and peers by role.

        Carried out after `trained` or `skip`, so that the exchange knows of a version before the
        actor can send anything that was sampled under it.
        """
        return self._exchange.counts()

    def _generate_until(self, wait: Callable[[], T]) -> T:
        """Decode, step by step, until what is waited for is there."""
        waited: Future[T] = self._waiter.submit(wait)
        waited.add_done_callback(lambda _: self._link.wake())
        with self._in_evaluation_mode():
            while not waited.done():
                if self._link.ended is not None:
                    raise RunStopped(f"the colocated actor has ended: {self._link.ended.reason}")
                self._actor.turn()
        return waited.result()

    @contextmanager
    def _in_evaluation_mode(self) -> Iterator[None]:
        self._policy.model.eval()
        try:
            yield
        finally:
            self._policy.model.train()


def _reachable(bind: str) -> str:
    """The host, as in an address, by which a process reaches itself."""
    host = "127.0.0.1" if bind in ("", "*", "0.0.0.0", "::") else bind  # noqa: S104 - recognised
    return f"[{host}]" if ":" in host else host
