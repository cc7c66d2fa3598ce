"""Policy versions that actors may fetch: manifests and chunks from memory, bounded in number."""

from collections import OrderedDict
from typing import Literal, NamedTuple

from protocol.messages import Chunk, ChunkRequest, Manifest, WeightsGone
from protocol.weights import PackedWeights

CHUNK_BYTES = 2**20


class ChunkAnswer(NamedTuple):
    """A chunk and its bytes (a view into the version, not a copy)."""

    message: Chunk
    raw: memoryview


class Publisher:
    """The newest versions of the policy, as bytes.

    Args:
        run_epoch: goes into every manifest.
        kind: what a version consists of.
        base_digest: of what is not trained.
        retained: how many versions are kept for actors that are still fetching them.
    """

    def __init__(
        self, run_epoch: int, kind: Literal["full", "lora"], base_digest: str, retained: int
    ) -> None:
        self._run_epoch = run_epoch
        self._kind: Literal["full", "lora"] = kind
        self._base_digest = base_digest
        self._retained = retained
        self._versions: OrderedDict[int, tuple[Manifest, memoryview]] = OrderedDict()

    def add(self, policy_version: int, packed: PackedWeights) -> Manifest:
        """Keep a version and forget the oldest ones."""
        manifest = Manifest(
            run_epoch=self._run_epoch,
            policy_version=policy_version,
            kind=self._kind,
            digest=packed.digest,
            base_digest=self._base_digest,
            tensors=packed.tensors,
            chunk_bytes=CHUNK_BYTES,
            total_bytes=len(packed.data),
        )
        self._versions[policy_version] = (manifest, packed.data)
        while len(self._versions) > self._retained:
            self._versions.popitem(last=False)
        return manifest

    def newest(self) -> Manifest | None:
        """Manifest of the newest version; None before the first."""
        return self._versions[next(reversed(self._versions))][0] if self._versions else None

    def chunk(self, request: ChunkRequest) -> ChunkAnswer | WeightsGone:
        """The requested chunk, or word that the version is not kept (or has no such chunk)."""
        manifest, data = self._versions.get(request.policy_version, (None, memoryview(b"")))
        start = request.index * CHUNK_BYTES
        if manifest is None or manifest.digest != request.digest or start >= len(data):
            return WeightsGone(policy_version=request.policy_version)
        chunk = Chunk(
            policy_version=request.policy_version, digest=request.digest, index=request.index
        )
        return ChunkAnswer(chunk, data[start : start + CHUNK_BYTES])
