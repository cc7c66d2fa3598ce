"""The thread that fetches weights, so that chunks flow while the main thread decodes.

It owns the state machine of actors/fetch.py. The link's thread hands it what comes on the weights
and notice channels; the main thread tells it what exists, and takes the newest finished version.
"""

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

import mlx.core as mx

from actors.fetch import WeightsFetch
from actors.prepared import Prepared, prepare
from actors.weights_source import WeightsSource
from protocol.errors import RunStopped, WeightsError
from protocol.messages import Chunk, Manifest, Message, Notice, WeightsGone
from protocol.wire import Received

log = logging.getLogger("actors.fetch_thread")

JOIN_SECONDS = 2.0
MAX_JOBS = 1000
"""That wait for the thread; a learner that sends more than is asked for fills no memory."""


class Fetcher(Protocol):
    """What an actor needs of where its weights come from."""

    def start(self) -> None:
        """Begin to fetch what is wanted."""
        ...

    def put(self, received: Received) -> None:
        """Take a message of the weights or the notice channel."""
        ...

    def want(self, run_epoch: int, version: int) -> None:
        """Hear that `version` exists."""
        ...

    def reset(self, run_epoch: int) -> None:
        """Begin anew, for another start of the learner."""
        ...

    def take(self) -> Prepared | None:
        """The newest verified version that was not taken yet."""
        ...

    def metrics(self) -> dict[str, float]:
        """What heartbeats say of it."""
        ...

    def close(self) -> None:
        """End."""
        ...


class FetchThread:
    """Fetches, verifies and prepares the newest version.

    Args:
        peer: this actor's name.
        send: hands a message to the weights channel; called from this thread.
        wake: lets the main thread take notice; called from this thread.
        source: versions that lie on this host as files.
        keep_base: versions may come as deltas.
        compute_dtype: what the policy computes in.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        peer: str,
        send: Callable[[Message], None],
        wake: Callable[[], None],
        source: WeightsSource,
        *,
        keep_base: bool,
        compute_dtype: mx.Dtype,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = WeightsFetch(peer, send, clock, source, keep_base=keep_base)
        self._wake = wake
        self._compute_dtype = compute_dtype
        self._jobs: queue.Queue[Callable[[], None]] = queue.Queue()
        self._newest: deque[Prepared] = deque(maxlen=1)
        self._run_epoch = -1
        self._failure = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fetch", daemon=True)

    # For other threads.

    def start(self) -> None:
        """Begin to fetch what is wanted."""
        self._thread.start()

    def put(self, received: Received) -> None:
        """Hand over a message of the weights or the notice channel.

        Dropped where too many wait: what was asked for is asked for again, and the next heartbeat's
        answer names the version as well as a notice does.
        """
        if self._jobs.qsize() < MAX_JOBS:  # never waits: it is the link's thread that calls
            self._jobs.put(partial(self._handle, received))

    def want(self, run_epoch: int, version: int) -> None:
        """Tell that `version` exists."""
        self._jobs.put(partial(self._fetch.want, run_epoch, version))

    def reset(self, run_epoch: int) -> None:
        """Begin anew: the learner restarted, its version numbers mean other weights."""
        self._run_epoch = run_epoch
        self._jobs.put(partial(self._fetch.reset, run_epoch))

    def take(self) -> Prepared | None:
        """The newest verified version that was not taken yet; for the main thread.

        Raises:
            RunStopped: the thread has failed.
        """
        if self._failure:
            raise RunStopped(self._failure)
        try:
            prepared = self._newest.pop()
        except IndexError:
            return None
        return prepared if prepared.manifest.run_epoch == self._run_epoch else None

    def metrics(self) -> dict[str, float]:
        """What heartbeats say of it."""
        return {
            "weights_fetched_bytes": float(self._fetch.fetched_bytes),
            "weights_mismatches": float(self._fetch.mismatches),
        }

    def close(self) -> None:
        """End the thread; one that is in the middle of something ends with the process."""
        self._closing.set()
        self._jobs.put(lambda: None)
        if self._thread.is_alive():
            self._thread.join(JOIN_SECONDS)

    # This thread.

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._turn(self._fetch.wait_seconds())
            self._fetch.close()
        except Exception as error:
            log.exception("fetching weights failed")
            self._failure = f"fetching weights failed: {type(error).__name__}: {error}"
            self._wake()

    def _turn(self, timeout_seconds: float | None) -> None:
        try:
            job = self._jobs.get(timeout=timeout_seconds)
        except queue.Empty:
            pass
        else:
            job()
        self._fetch.tick()
        fetched = self._fetch.take()
        if fetched is not None:
            try:
                self._newest.append(prepare(fetched, self._compute_dtype))
            except WeightsError as error:
                log.warning("version %d refused: %s", fetched.manifest.policy_version, error)
            self._wake()
        self._fetch.share()

    def _handle(self, received: Received) -> None:
        message = received.message
        match message:
            case Chunk():
                self._fetch.on_chunk(message, received.raw)
            case Manifest():
                try:
                    self._fetch.on_manifest(message)
                except WeightsError as error:
                    version = message.policy_version
                    log.warning("manifest of version %d refused: %s", version, error)
            case WeightsGone():
                self._fetch.on_gone(message)
            case Notice():
                self._fetch.want(message.run_epoch, message.policy_version)
            case _:
                log.warning("did not expect a %s", type(message).__name__)
