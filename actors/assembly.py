"""The chunks of one payload: which are here, and which to ask for next."""

from collections import deque

import xxhash

from actors.fresh_memory import FreshMemory
from protocol.errors import WeightsError
from protocol.messages import Chunk, ChunkRequest, Manifest
from protocol.wire import Buffer

CREDIT = 4
"""Chunks asked for and not yet here."""
MAX_CHUNKS = 2**20
"""Each is remembered until it is here."""


class Assembly:
    """One payload on its way. Whatever comes twice, late or in another order does no harm.

    Raises:
        WeightsError: the payload is of too many chunks, or memory has no room for it.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        num_chunks = -(-manifest.total_bytes // manifest.chunk_bytes)
        if num_chunks > MAX_CHUNKS:
            raise WeightsError(f"a payload of {num_chunks} chunks, at most {MAX_CHUNKS} are taken")
        try:
            self._memory = FreshMemory(manifest.total_bytes)
        except MemoryError as error:
            raise WeightsError(
                f"no memory for a payload of {manifest.total_bytes} bytes"
            ) from error
        self.data = self._memory.data
        self._digest = xxhash.xxh3_128()
        self._num_digested = 0
        """Chunks, from the first on; a chunk is digested as it comes, while caches have it."""
        self._missing = set(range(num_chunks))
        self._to_ask = deque(range(num_chunks))
        self._asked: set[int] = set()

    @property
    def complete(self) -> bool:
        """Every chunk is here."""
        return not self._missing

    @property
    def digest(self) -> str:
        """Of all bytes, as `protocol.weights.digest_of`; only of a complete payload."""
        assert self.complete
        return self._digest.hexdigest()

    @property
    def more_than_half(self) -> bool:
        """Less is to come than is here."""
        return 2 * len(self._missing) * self.manifest.chunk_bytes < len(self.data)

    def requests(self, credit: int = CREDIT) -> list[ChunkRequest]:
        """What to ask for now, within the credit; it counts as asked."""
        found: list[ChunkRequest] = []
        while self._to_ask and len(self._asked) < credit:
            index = self._to_ask.popleft()
            if index not in self._missing:
                continue  # it came late, after it was to be asked for again
            self._asked.add(index)
            found.append(
                ChunkRequest(
                    policy_version=self.manifest.policy_version,
                    digest=self.manifest.digest,
                    index=index,
                )
            )
        return found

    def take(self, chunk: Chunk, raw: Buffer) -> bool:
        """Store a chunk; False where it is none of this payload, or is here already."""
        start = chunk.index * self.manifest.chunk_bytes
        wanted = min(self.manifest.chunk_bytes, len(self.data) - start)
        ours = chunk.digest == self.manifest.digest and chunk.index in self._missing
        if not ours or len(raw) != wanted:
            return False
        self._memory.fill(start, raw)
        self._missing.discard(chunk.index)
        self._update_digest()
        self._asked.discard(chunk.index)
        return True

    def ask_again(self) -> None:
        """Let what was asked for and never came be asked for again."""
        self._to_ask.extendleft(sorted(self._asked, reverse=True))
        self._asked.clear()

    def _update_digest(self) -> None:
        size = self.manifest.chunk_bytes
        while (start := self._num_digested * size) < len(self.data):
            if self._num_digested in self._missing:
                return
            self._digest.update(self.data[start : start + size])
            self._num_digested += 1
