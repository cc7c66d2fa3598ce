"""Getting the newest version: as a file, as a delta, or whole, in chunks. No socket, thread or mlx.

A manifest says how to get a version. Where a file of this host has it, nothing is fetched; else
its payload comes in chunks. A payload that is a delta is applied to the bytes of an older version,
and the learner may lead from there to the newest one delta by delta. Whatever does not match its
digest is counted, and the version is asked for whole.
"""

import logging
from collections.abc import Callable
from typing import NamedTuple

from actors.assembly import CREDIT, Assembly
from actors.manifest_check import HeldVersion, check_manifest, num_bytes_of
from actors.weights_source import WeightsSource
from protocol.delta import apply_delta
from protocol.errors import WeightsError
from protocol.messages import Chunk, Manifest, ManifestRequest, Message, WeightsGone
from protocol.weights import digest_of
from protocol.wire import Buffer

log = logging.getLogger("actors.fetch")

RETRY_SECONDS = 3.0
POLL_SECONDS = 0.05
"""Between two looks for what another actor of this host fetches."""
PATIENCE_SECONDS = 60.0
"""That other actor may be stopped: after so long, this one fetches for itself."""


class Fetched(NamedTuple):
    """All bytes of a version, their digest verified."""

    manifest: Manifest
    data: Buffer


class WeightsFetch:
    """Gets the newest version from the learner, one version at a time.

    Args:
        peer: this actor's name.
        send: hands a message to the weights channel.
        clock: monotonic seconds.
        source: versions that lie on this host as files.
        keep_base: keep the bytes of the newest version, so that the next one may come as a delta.
    """

    def __init__(
        self,
        peer: str,
        send: Callable[[Message], None],
        clock: Callable[[], float],
        source: WeightsSource,
        *,
        keep_base: bool,
    ) -> None:
        self._peer = peer
        self._send = send
        self._clock = clock
        self._source = source
        self._keep_base = keep_base
        self._run_epoch = -1
        self._assembly: Assembly | None = None
        self._awaited: tuple[Manifest, float] | None = None
        """What another actor of this host fetches, and since when this one waits for it."""
        self._to_share: tuple[str, Buffer] | None = None
        self._base: HeldVersion | None = None
        self._takes_deltas = True
        self._was_gone = False
        """The learner said so of a payload since the last version arrived."""
        self._has_dropped = False
        """Something was given up for a newer version since the last one was handed out."""
        self._heard_at = float("-inf")
        self._wanted = -1
        """The newest version known of."""
        self._aim = -1
        """Where a chain of deltas ends: `_wanted` of its begin, or it might never end."""
        self._verified = -1
        """The newest version that was handed out."""
        self.fetched: Fetched | None = None
        """A verified version that waits to be taken."""
        self.mismatches = 0
        """Payloads and versions whose bytes did not match their digest."""
        self.fetched_bytes = 0
        """Of chunks that came in time."""

    def want(self, run_epoch: int, version: int) -> None:
        """Tell that `version` exists."""
        if run_epoch != self._run_epoch or version <= self._wanted:
            return
        if not self._is_behind():
            self._aim = version
        self._wanted = version
        self._drop_outdated()

    def reset(self, run_epoch: int) -> None:
        """Begin anew: the learner restarted, its version numbers mean other weights."""
        self._stop()
        self._run_epoch, self._base, self.fetched = run_epoch, None, None
        self._was_gone = False
        self._wanted = self._aim = self._verified = -1

    def take(self) -> Fetched | None:
        """Hand out the fetched version, once."""
        fetched, self.fetched = self.fetched, None
        return fetched

    def share(self) -> None:
        """Write what was fetched for the other actors of this host, if there are any.

        It takes long; call it when the version has been handed out.
        """
        if self._to_share is None:
            return
        (digest, data), self._to_share = self._to_share, None
        mapped = self._source.store(digest, data)
        if mapped is not None and self._base is not None and self._base.digest == digest:
            self._base = self._base._replace(data=mapped)  # the file is cheaper to keep

    def close(self) -> None:
        """Give up what is under way, and what is shared with other actors."""
        self._source.close()

    def wait_seconds(self) -> float | None:
        """Until `tick` has something to do; None: not before something is said."""
        if self._awaited is not None:
            return POLL_SECONDS
        if not self._is_behind():
            return None
        return max(0.0, self._heard_at + RETRY_SECONDS - self._clock())

    def tick(self) -> None:
        """Ask for what a version is made of, or again for what does not come."""
        if self._awaited is not None:
            try:
                self._obtain(*self._awaited)
            except WeightsError as error:
                log.warning("a version that was waited for is refused: %s", error)
        elif self._is_behind() and self._clock() - self._heard_at >= RETRY_SECONDS:
            self._heard_at = self._clock()
            if self._assembly is None:
                self._ask_for_manifest()
            else:
                self._assembly.ask_again()
                # One, or a learner that was stopped for long finds a thousand when it wakes.
                self._ask_for_chunks(self._assembly, credit=1)

    def on_gone(self, gone: WeightsGone) -> None:
        """Start over: what is being fetched is no longer kept."""
        if self._assembly and self._assembly.manifest.policy_version == gone.policy_version:
            self._stop()
            self._takes_deltas = False
            if self._was_gone:  # a learner that always says so is not asked without a break
                self._heard_at = self._clock()
            self._was_gone = True

    def on_manifest(self, manifest: Manifest) -> None:
        """Begin to get a version.

        Raises:
            WeightsError: the manifest is not consistent, or no delta of what is held, or of more
                than memory has room for.
        """
        busy = self._assembly is not None or self._awaited is not None
        if manifest.run_epoch != self._run_epoch or busy:
            return
        if manifest.policy_version <= self._verified:
            if self._is_behind():  # a chain that leads nowhere
                self._takes_deltas = False
            return
        self._heard_at = self._clock()
        try:
            check_manifest(manifest, self._base)
        except WeightsError:
            self._takes_deltas = False
            raise
        self.want(manifest.run_epoch, manifest.policy_version)
        if self._base is not None and self._base.digest == manifest.weights_digest:
            self._arrived(manifest, self._base.data)
        else:
            self._obtain(manifest, self._clock())

    def on_chunk(self, chunk: Chunk, raw: Buffer) -> None:
        """Store a chunk; verify the whole when it was the last."""
        assembly = self._assembly
        if assembly is None or not assembly.take(chunk, raw):
            return
        self._heard_at = self._clock()
        self.fetched_bytes += len(raw)
        if assembly.complete:
            self._finish(assembly)
        else:
            self._ask_for_chunks(assembly)

    def _is_behind(self) -> bool:
        return self._wanted > self._verified

    def _is_on_the_way(self, manifest: Manifest) -> bool:
        """Only a step of a chain of deltas: not to be handed out, and of no use to others."""
        return manifest.kind == "delta" and manifest.policy_version < self._aim

    def _obtain(self, manifest: Manifest, since: float) -> None:
        """Take a version from a file, or fetch it, or wait for another actor that fetches it."""
        self.share()  # its claim ends with the next one
        on_the_way = self._is_on_the_way(manifest)
        ours = on_the_way or self._source.claim(manifest.weights_digest)
        data = self._source.find(manifest.weights_digest, num_bytes_of(manifest))
        if data is not None:
            self._source.release()
            self._arrived(manifest, data)
            self._takes_deltas = not self._source.has_learners_files  # next time: newest, whole
        elif ours or self._clock() - since >= PATIENCE_SECONDS:
            self._awaited, self._heard_at = None, self._clock()
            try:
                self._assembly = Assembly(manifest)
            except WeightsError:
                self._source.release()
                self._takes_deltas = False
                raise
            self._ask_for_chunks(self._assembly)
        else:
            self._awaited = manifest, since

    def _ask_for_manifest(self) -> None:
        held = self._base.digest if self._base and self._takes_deltas else ""
        self._send(ManifestRequest(peer=self._peer, held_version=self._verified, held_digest=held))

    def _ask_for_chunks(self, assembly: Assembly, credit: int = CREDIT) -> None:
        for request in assembly.requests(credit):
            self._send(request)

    def _drop_outdated(self) -> None:
        """Give up what is not half here for the newest version.

        Only once before a version is handed out, or a slow wire would never bring any.
        """
        under_way = self._assembly.manifest if self._assembly else (self._awaited or [None])[0]
        if under_way is None or under_way.kind == "delta" or self._has_dropped:
            return
        if self._assembly is None or not self._assembly.more_than_half:
            self._stop()
            self._has_dropped = True

    def _stop(self) -> None:
        self._assembly = self._awaited = self._to_share = None
        self._source.release()
        self._heard_at = float("-inf")

    def _finish(self, assembly: Assembly) -> None:
        manifest = assembly.manifest
        self._assembly = None
        try:
            data = _verified_bytes(assembly, self._base)
        except WeightsError as error:
            log.warning("version %d: %s; fetching it whole", manifest.policy_version, error)
            self.mismatches += 1
            self._base = None
            self._source.release()
            if manifest.kind == "delta":
                self._heard_at = float("-inf")
        else:
            self._arrived(manifest, data)
            self._to_share = manifest.weights_digest, data

    def _arrived(self, manifest: Manifest, data: Buffer) -> None:
        self._awaited = None
        self._heard_at = float("-inf")
        self._takes_deltas, self._was_gone = True, False
        if self._keep_base:
            self._base = HeldVersion(manifest.policy_version, manifest.weights_digest, data)
        if not self._is_on_the_way(manifest):
            self._verified, self._aim = manifest.policy_version, self._wanted
            self._has_dropped = False
            self.fetched = Fetched(manifest, data)


def _verified_bytes(assembly: Assembly, base: HeldVersion | None) -> Buffer:
    """The version's bytes from its whole payload.

    Raises:
        WeightsError: payload or version do not match their digest.
    """
    manifest = assembly.manifest
    if assembly.digest != manifest.digest:
        raise WeightsError("what came does not match its digest")
    if manifest.kind != "delta":
        return assembly.data
    assert base is not None
    try:
        data = apply_delta(manifest.tensors, base.data, assembly.data)
    except MemoryError as error:
        raise WeightsError(f"no memory for a version of {len(base.data)} bytes") from error
    if digest_of(data) != manifest.weights_digest:
        raise WeightsError("the delta does not lead to the version's digest")
    return data
