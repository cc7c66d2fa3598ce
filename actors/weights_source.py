"""Whole versions as files on this host: the learner's own, or those that its actors share.

On the learner's host versions are mapped from the learner's folder. On any other host one actor
fetches a version, under a lock by its digest, and the others map what it wrote. Whatever is
missing, damaged or not writable costs a fetch of one's own and nothing else. Every reader verifies.
"""

import logging
from pathlib import Path

from protocol.config import RunConfig
from protocol.errors import WeightsError
from protocol.messages import Welcome
from protocol.process import this_host
from protocol.weights_files import WeightsFiles, WeightsLock
from protocol.weights_folders import host_folder, remove_abandoned_host_folders
from protocol.wire import Buffer

log = logging.getLogger("actors.weights_source")

_SEATS = tuple(f"{number:032x}" for number in range(16))
"""Locks that tell the actors of a host that there are others; they name no version."""


class WeightsSource:
    """Finds versions as files, and decides who of this host's actors fetches one.

    Args:
        learner: the learner's folder, where it is on this host; it is only read.
        host: the folder that the actors of this host share; used where there is no other.
    """

    def __init__(
        self, learner: WeightsFiles | None = None, host: WeightsFiles | None = None
    ) -> None:
        self._learner = learner
        self._host = host if learner is None else None
        self._lock: WeightsLock | None = None
        self._newest = ""
        self._share = self._host.claim(shared=True) if self._host else None
        """While this actor lives, no other one takes the folder for abandoned."""
        self._seat, self._seat_lock = _take_seat(self._host) if self._host else ("", None)

    @property
    def has_learners_files(self) -> bool:
        """The learner shares its versions with this process."""
        return self._learner is not None

    def find(self, weights_digest: str, num_bytes: int) -> memoryview | None:
        """A version's bytes, mapped and verified; None where no file has them."""
        files = self._learner or self._host
        # What does not match in the learner's folder may be the manifest's fault: it stays there.
        keep = self._learner is not None
        found = files.read(weights_digest, num_bytes, remove=not keep) if files else None
        if found is not None:
            self._newest = weights_digest
        return found

    def claim(self, weights_digest: str) -> bool:
        """Whether this actor is to fetch that version; False while another one of its host is."""
        self.release()
        if self._host is None:
            return True
        try:
            self._lock = self._host.try_lock(weights_digest)
        except WeightsError as error:
            _tell_unshared(error)
            self._host = None
            return True
        return self._lock is not None

    def store(self, weights_digest: str, data: Buffer) -> memoryview | None:
        """Share a version that was claimed, if there is anyone to share it with.

        Returns:
            The file's bytes; None where there is none.
        """
        if self._host is None or self._lock is None:
            return None
        mapped = None
        if not self._is_alone(self._host) and self._host.write(weights_digest, data):
            self._host.keep([weights_digest, self._newest])
            mapped = self.find(weights_digest, len(data))
        self.release()
        return mapped

    def release(self) -> None:
        """Let another actor fetch what this one had claimed."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def close(self) -> None:
        """Leave no versions behind: this actor's run is over."""
        self.release()
        if self._seat_lock is not None:
            self._seat_lock.release()
        if self._share is not None:
            self._share.release()
        if self._host is not None:
            self._host.keep([])
            self._host.remove()  # if this was the last actor

    def _is_alone(self, host: WeightsFiles) -> bool:
        """No other actor is on this host, and a file would only wear its disk out."""
        for seat in _SEATS:
            if seat != self._seat:
                try:
                    lock = host.try_lock(seat)
                except WeightsError:  # the folder is gone, and so is whoever shared it
                    return True
                if lock is None:
                    return False
                lock.release()
        return self._seat_lock is not None


def source_of(welcome: Welcome, config: RunConfig) -> WeightsSource:
    """What the learner's Welcome makes possible on this host."""
    if config.learner.tuning == "lora" or not config.learner.publish.share_files:
        return WeightsSource()
    try:
        if _is_here(welcome):
            return WeightsSource(learner=WeightsFiles(Path(welcome.weights_dir)))
        remove_abandoned_host_folders()
        return WeightsSource(host=WeightsFiles(host_folder(welcome.run_id)))
    except WeightsError as error:
        _tell_unshared(error)
        return WeightsSource()


def _is_here(welcome: Welcome) -> bool:
    """The learner's folder is one of this host that this process can look at."""
    if welcome.host != this_host() or not welcome.weights_dir:
        return False
    try:
        return Path(welcome.weights_dir).is_dir()
    except (OSError, ValueError) as error:  # another user's, or no path at all
        log.warning("the learner's folder of versions cannot be read here: %s", error)
        return False


def _take_seat(host: WeightsFiles) -> tuple[str, WeightsLock | None]:
    """The first free seat and its lock; none where all are taken."""
    for seat in _SEATS:
        lock = host.try_lock(seat)
        if lock is not None:
            return seat, lock
    return "", None


def _tell_unshared(error: WeightsError) -> None:
    log.warning("versions are not shared on this host, every actor fetches its own: %s", error)
