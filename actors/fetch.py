"""Fetching a policy version in chunks, by credit. A state machine: no socket, no mlx."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from protocol.errors import WeightsError
from protocol.messages import Chunk, ChunkRequest, Manifest, ManifestRequest, Message, WeightsGone
from protocol.weights import digest_of
from protocol.wire import Buffer

log = logging.getLogger("actors.fetch")

CREDIT = 8
"""Chunks asked for and not yet here."""
RETRY_SECONDS = 3.0
MAX_VERSION_BYTES = 2**40


@dataclass(frozen=True)
class Fetched:
    """All bytes of a version, their digest verified."""

    manifest: Manifest
    data: bytearray


@dataclass
class _Assembly:
    manifest: Manifest
    data: bytearray
    missing: set[int]
    next_index: int = 0
    asked: set[int] = field(default_factory=set)


class WeightsFetch:
    """Gets the newest version from the learner, one version at a time.

    Args:
        peer: this actor's name.
        send: hands a message to the weights channel.
        clock: monotonic seconds.
    """

    def __init__(
        self, peer: str, send: Callable[[Message], None], clock: Callable[[], float]
    ) -> None:
        self._peer = peer
        self._send = send
        self._clock = clock
        self._assembly: _Assembly | None = None
        self._heard_at = float("-inf")
        self._wanted = -1
        self._held = -1
        self.fetched: Fetched | None = None
        """A verified version that waits to be applied; `take` hands it out."""
        self.mismatches = 0
        """Versions whose bytes did not match their digest."""

    @property
    def behind(self) -> bool:
        """A newer version than the held one is known to exist."""
        return self._wanted > self._held

    @property
    def _ready(self) -> int:
        return self.fetched.manifest.policy_version if self.fetched else self._held

    def want(self, version: int, held: int) -> None:
        """Tell that `version` exists while `held` is what the model computes with."""
        self._wanted = max(self._wanted, version)
        self._held = held

    def reset(self) -> None:
        """Begin anew: the learner restarted, its version numbers mean other weights."""
        self._assembly, self.fetched, self._wanted, self._held = None, None, -1, -1
        self._heard_at = float("-inf")

    def tick(self) -> None:
        """Ask for the manifest where a version is wanted and nothing was heard for a while."""
        if self._wanted <= self._ready or self._clock() - self._heard_at < RETRY_SECONDS:
            return
        self._assembly = None
        self._heard_at = self._clock()
        self._send(ManifestRequest(peer=self._peer, held_version=self._held))

    def take(self) -> Fetched | None:
        """Hand out the fetched version, once."""
        fetched, self.fetched = self.fetched, None
        return fetched

    def on_gone(self, gone: WeightsGone) -> None:
        """Start over: the version is no longer kept."""
        if self._assembly and self._assembly.manifest.policy_version == gone.policy_version:
            self._assembly, self._heard_at = None, float("-inf")

    def on_manifest(self, manifest: Manifest) -> None:
        """Begin to ask for the chunks of a version.

        Raises:
            WeightsError: the manifest is not consistent.
        """
        self._heard_at = self._clock()
        if self._assembly or manifest.policy_version <= self._ready:
            return
        total = sum(spec.num_bytes for spec in manifest.tensors)
        if total != manifest.total_bytes or not 0 < total <= MAX_VERSION_BYTES:
            raise WeightsError(f"manifest of {manifest.total_bytes} bytes for {total} of tensors")
        num_chunks = -(-total // manifest.chunk_bytes)
        self._assembly = _Assembly(manifest, bytearray(total), set(range(num_chunks)))
        self._ask()

    def on_chunk(self, chunk: Chunk, raw: Buffer) -> None:
        """Store a chunk; verify the whole when it was the last."""
        assembly = self._assembly
        if assembly is None or chunk.digest != assembly.manifest.digest:
            return
        start = chunk.index * assembly.manifest.chunk_bytes
        wanted = min(assembly.manifest.chunk_bytes, len(assembly.data) - start)
        if chunk.index not in assembly.missing or len(raw) != wanted:
            return
        self._heard_at = self._clock()
        assembly.data[start : start + wanted] = raw
        assembly.missing.discard(chunk.index)
        assembly.asked.discard(chunk.index)
        if assembly.missing:
            self._ask()
        else:
            self._finish(assembly)

    def _ask(self) -> None:
        assembly = self._assembly
        assert assembly is not None
        num_chunks = -(-len(assembly.data) // assembly.manifest.chunk_bytes)
        while len(assembly.asked) < CREDIT and assembly.next_index < num_chunks:
            assembly.asked.add(assembly.next_index)
            self._send(
                ChunkRequest(
                    policy_version=assembly.manifest.policy_version,
                    digest=assembly.manifest.digest,
                    index=assembly.next_index,
                )
            )
            assembly.next_index += 1

    def _finish(self, assembly: _Assembly) -> None:
        self._assembly = None
        if digest_of(assembly.data) == assembly.manifest.digest:
            self.fetched = Fetched(assembly.manifest, assembly.data)
            self._heard_at = float("-inf")
        else:
            self.mismatches += 1
            log.warning(
                "version %d did not match its digest; fetching it again",
                assembly.manifest.policy_version,
            )
