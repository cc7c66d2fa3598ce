"""Making policy versions while training goes on: two threads, and training waits for neither.

The first takes a version's digest, which is all that training asks for, and copies its arrays into
one buffer. The second writes the file for actors on this host, encodes the delta for those
elsewhere, and only then lets the exchange tell of the version: else they would fetch it whole.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx

from learner.exchange.publish import Delta
from learner.publishing.shared import SharedVersions
from protocol.delta import encode_delta
from protocol.errors import RunStopped
from protocol.weights import FrozenWeights, PackedWeights, digest_of, freeze, join

log = logging.getLogger("learner.publishing")


class Exchange(Protocol):
    """What is needed of the exchange thread."""

    actor_hosts: frozenset[str]

    def publish(
        self, policy_version: int, packed: PackedWeights, delta: Delta | None = None
    ) -> None:
        """Let actors have a version, and tell them."""
        ...

    def halt(self, reason: str) -> None:
        """Let nothing more be trained or evaluated, for this reason."""
        ...


@dataclass(frozen=True)
class Published:
    """What a version that actors can have has cost."""

    policy_version: int
    encode_seconds: float
    """Of both threads."""
    payload_bytes: int
    """That an actor fetches which has the version before: the delta's, where there is one."""
    full_bytes: int


@dataclass(frozen=True)
class _Frozen:
    policy_version: int
    frozen: FrozenWeights
    digest: "Future[str]"


@dataclass(frozen=True)
class _Packed:
    policy_version: int
    packed: PackedWeights
    seconds: float


class VersionWriter:
    """Publishes versions in their order; one that is overtaken while it waits is left out.

    So at most one version is being packed, one waits, and one is being encoded, however slow that
    is; actors get the newest there is.

    Args:
        exchange: told of each version, and of a failure.
        deltas: encode what changed, where an actor can use it.
        shared: where actors on this host find whole versions; None shares none.
        host: this one's name.
        encode: (tensors, old bytes, new bytes) -> payload.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        deltas: bool,
        shared: SharedVersions | None = None,
        host: str = "",
        encode: Callable[..., bytes] = encode_delta,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._exchange = exchange
        self._deltas = deltas
        self._shared = shared
        self._host = host
        self._encode = encode
        self._clock = clock
        self._frozen: queue.SimpleQueue[_Frozen | None] = queue.SimpleQueue()
        self._packed: queue.Queue[_Packed | None] = queue.Queue(maxsize=1)
        self._before: PackedWeights | None = None
        """The version that the exchange was given last."""
        self._failure: RunStopped | None = None
        self._threads: tuple[threading.Thread, ...] = ()
        self.newest: Published | None = None
        """The newest version that actors can have; None before the first."""

    # For the training thread.

    def publish(self, policy_version: int, weights: Mapping[str, mx.array]) -> "Future[str]":
        """Make weights a policy version, without waiting; returns its digest to come.

        Raises:
            RunStopped: an earlier version could not be published; the digest may raise it too.
        """
        if self._failure is not None:
            raise RunStopped(str(self._failure))
        if not self._threads:
            self._threads = (
                threading.Thread(target=self._pack_all, name="packing", daemon=True),
                threading.Thread(target=self._offer_all, name="publishing", daemon=True),
            )
            for thread in self._threads:
                thread.start()
        job = _Frozen(policy_version, freeze(weights.items()), Future())
        self._frozen.put(job)
        return job.digest

    def close(self, seconds: float) -> None:
        """End both threads, or leave them alone after so long, and delete the shared files."""
        self._frozen.put(None)
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._shared is not None:
            self._shared.close()

    # The first thread.

    def _pack_all(self) -> None:
        while self._pack_next():
            pass

    def _pack_next(self) -> bool:
        """Pack one version, and hold on to nothing of it; False at the end."""
        job = self._frozen.get()
        if job is None:
            self._pass_on(None)
            return False
        began = self._clock()
        try:
            job.digest.set_result(digest := job.frozen.digest())
            packed = join(job.frozen, digest)
        except Exception as error:
            log.exception("packing version %d failed", job.policy_version)
            failure = self._fail(error)
            if not job.digest.done():
                job.digest.set_exception(failure)
            return True  # no later digest must be left open
        self._pass_on(_Packed(job.policy_version, packed, self._clock() - began))
        return True

    def _pass_on(self, packed: _Packed | None) -> None:
        with suppress(queue.Empty):
            self._packed.get_nowait()  # overtaken: nobody asks for it any more
        self._packed.put(packed)

    # The second thread.

    def _offer_all(self) -> None:
        try:
            while self._offer_next():
                pass
        except RunStopped as ended:  # the exchange: it has told training already
            self._failure = ended
        except Exception as error:
            log.exception("publishing failed")
            self._fail(error)

    def _offer_next(self) -> bool:
        """Let actors have one version; False at the end."""
        version = self._packed.get()
        if version is None:
            return False
        began, packed = self._clock(), version.packed
        delta = self._delta(packed) if self._is_fetched(packed) else None
        self.newest = Published(
            policy_version=version.policy_version,
            encode_seconds=version.seconds + self._clock() - began,
            payload_bytes=len(delta.payload if delta else packed.data),
            full_bytes=len(packed.data),
        )
        self._exchange.publish(version.policy_version, packed, delta)
        self._before = packed
        return True

    def _is_fetched(self, packed: PackedWeights) -> bool:
        """Share the file where it can be of use; whether an actor will not find it."""
        hosts = self._exchange.actor_hosts
        is_read = not hosts or self._host in hosts  # before the first actor comes, by it
        if self._shared is not None and is_read and self._shared.write(packed):
            hosts -= {self._host}
        return bool(hosts)

    def _delta(self, packed: PackedWeights) -> Delta | None:
        """What leads here from the version before; None where the whole is no larger."""
        before = self._before
        if not self._deltas or before is None:
            return None
        payload = self._encode(packed.tensors, before.data, packed.data)
        if len(payload) >= len(packed.data):
            return None
        return Delta(before.digest, memoryview(payload), digest_of(payload))

    # Both.

    def _fail(self, error: Exception) -> RunStopped:
        """End the run, with its reason."""
        self._failure = RunStopped(f"publishing failed: {type(error).__name__}: {error}")
        with suppress(RunStopped):  # the exchange has ended: training knows
            self._exchange.halt(str(self._failure))
        return self._failure
