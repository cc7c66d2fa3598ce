"""Policy versions that actors may fetch: manifests and chunks from memory, bounded in bytes."""

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from protocol.messages import Chunk, ChunkRequest, Manifest, Notice, WeightsGone
from protocol.weights import PackedWeights

CHUNK_BYTES = 2**22
"""Four of them are on their way to an actor. With smaller ones each turn of the exchange costs more
than its bytes (bench/table, weights/chunks_vs_tcp)."""


class ChunkAnswer(NamedTuple):
    """A chunk and its bytes (a view into the payload, not a copy)."""

    message: Chunk
    raw: memoryview


@dataclass(frozen=True)
class Delta:
    """How a version's bytes come from those of the version that was published before it."""

    from_digest: str
    """Of the version before."""
    payload: memoryview
    digest: str
    """Of the payload."""


class _Offer(NamedTuple):
    """A manifest and the payload that it promises."""

    manifest: Manifest
    payload: memoryview


class Publisher:
    """The newest versions of the policy: whole, and as a chain of deltas from older ones.

    The chain is as long as its payloads together stay below the whole newest version: an actor that
    holds a version on it has less to fetch by deltas, any other one gets the whole.

    Args:
        run_epoch: goes into every manifest.
        kind: what a whole version consists of.
        base_digest: of what is not trained.
        retained: how many whole versions are kept for actors that are still fetching them.
    """

    def __init__(
        self, run_epoch: int, kind: Literal["full", "lora"], base_digest: str, retained: int
    ) -> None:
        self._run_epoch = run_epoch
        self._kind: Literal["full", "lora"] = kind
        self._base_digest = base_digest
        self._retained = retained
        self._versions: OrderedDict[int, _Offer] = OrderedDict()
        self._links: deque[_Offer] = deque()
        """Each link's `from_digest` is the `weights_digest` of the link before it."""

    @property
    def policy_version(self) -> int:
        """The newest; 0 before the first."""
        return next(reversed(self._versions), 0)

    def add(
        self, policy_version: int, packed: PackedWeights, delta: Delta | None = None
    ) -> Manifest:
        """Keep a version, forget the oldest ones; returns the manifest of the whole version."""
        before = self.manifest()
        assert before is None or policy_version >= before.policy_version, "versions come in order"
        whole = Manifest(
            run_epoch=self._run_epoch,
            policy_version=policy_version,
            kind=self._kind,
            digest=packed.digest,
            weights_digest=packed.digest,
            base_digest=self._base_digest,
            tensors=packed.tensors,
            chunk_bytes=CHUNK_BYTES,
            total_bytes=len(packed.data),
        )
        self._versions[policy_version] = _Offer(whole, packed.data)
        while len(self._versions) > self._retained:
            self._versions.popitem(last=False)
        self._add_link(whole, delta, before)
        return whole

    def manifest(self, held_digest: str = "") -> Manifest | None:
        """The next one for an actor on its way to the newest version; None before the first.

        Args:
            held_digest: `weights_digest` of the version that the actor has bytes of; empty: none.
        """
        for link in reversed(self._links):  # the same bytes may have been a version twice
            if link.manifest.from_digest == held_digest:
                return link.manifest
        return self._versions[self.policy_version].manifest if self._versions else None

    def notice(self, run_id: str) -> Notice:
        """Word of the newest version."""
        newest = self._versions[self.policy_version].manifest
        return Notice(
            run_id=run_id,
            run_epoch=self._run_epoch,
            policy_version=newest.policy_version,
            digest=newest.weights_digest,
        )

    def chunk(self, request: ChunkRequest) -> ChunkAnswer | WeightsGone:
        """The requested chunk, or word that the payload is not kept (or has no such chunk)."""
        payload = self._payload(request)
        start = request.index * CHUNK_BYTES
        if start >= len(payload):
            return WeightsGone(policy_version=request.policy_version)
        chunk = Chunk(
            policy_version=request.policy_version, digest=request.digest, index=request.index
        )
        return ChunkAnswer(chunk, payload[start : start + CHUNK_BYTES])

    def _add_link(self, whole: Manifest, delta: Delta | None, before: Manifest | None) -> None:
        if delta is None or before is None or delta.from_digest != before.weights_digest:
            self._links.clear()  # nobody can come further on the chain that there was
            return
        link = whole.model_copy(
            update={
                "kind": "delta",
                "digest": delta.digest,
                "from_digest": delta.from_digest,
                "total_bytes": len(delta.payload),
            }
        )
        self._links.append(_Offer(link, delta.payload))
        while self._links and sum(len(link.payload) for link in self._links) >= whole.total_bytes:
            self._links.popleft()

    def _payload(self, request: ChunkRequest) -> memoryview:
        for manifest, payload in self._offers():
            if (manifest.policy_version, manifest.digest) == (
                request.policy_version,
                request.digest,
            ):
                return payload
        return memoryview(b"")

    def _offers(self) -> Iterator[_Offer]:
        yield from self._versions.values()
        yield from reversed(self._links)
