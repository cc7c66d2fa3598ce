"""Versions as files that processes of one host share: each is mapped, verified and never changed.

A file is named by the digest of its bytes, written beside under a temporary name and renamed when
whole. Nobody writes into a named file, so a reader's mapping stays good, also after the file was
removed or replaced. Nothing is synced: what a crash of the host leaves is found by its digest.
Locks are the kernel's (flock), hence free again when their holder dies, however it dies; a folder
in memory whose owner has died is removed by the next learner that starts. A folder is its user's
alone (0700): who can write there decides what the policy is.
"""

import contextlib
import fcntl
import logging
import mmap
import os
import re
import secrets
import stat
import time
import weakref
from collections.abc import Collection
from pathlib import Path

import xxhash

from protocol.errors import WeightsError
from protocol.wire import Buffer

_DIGEST = re.compile(r"[0-9a-f]{32}")
_LOCK = ".lock"
_OWNER = "owner.lock"
_TEMPORARY = ".part"
_MAKE_TRIES = 10
_CLAIM_TRIES, _CLAIM_SECONDS = 50, 0.1
_REMEDY = "remove it, or set learner.publish.share_files to false"

log = logging.getLogger("protocol.weights_files")


class WeightsLock:
    """One process's turn at a version; free after `release`, or when nobody holds it any more."""

    def __init__(self, descriptor: int) -> None:
        self._close = weakref.finalize(self, os.close, descriptor)

    def release(self) -> None:
        """Let the next one in; a second call does nothing."""
        self._close()


class WeightsFiles:
    """The versions in one folder, which is made if it does not exist.

    Args:
        folder: on a file system of this host.

    Raises:
        WeightsError: the folder cannot be made, or others could write there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._has_told = False
        """The log says already that the folder takes nothing."""
        self._make()

    @staticmethod
    def remove_abandoned(folder: Path) -> None:
        """Remove a folder and its versions, if no living process has claimed it."""
        with contextlib.suppress(OSError, WeightsError):  # another was quicker, or odd
            _check_owned(folder)
            _remove_if_abandoned(folder)

    def claim(self, *, shared: bool = False) -> WeightsLock:
        """Own the folder until `release`, or this process's end: it is not abandoned meanwhile.

        Args:
            shared: together with others that claim it so.

        Raises:
            WeightsError: another process owns it, or it cannot hold locks.
        """
        for _ in range(_CLAIM_TRIES):
            try:
                descriptor = _open_locked(self._folder / _OWNER, shared=shared)
            except FileNotFoundError:  # just removed, as one that was left behind
                self._make()
                continue
            except OSError as error:
                raise WeightsError(f"{self._folder} cannot hold a lock: {error}") from error
            if descriptor is not None:
                return WeightsLock(descriptor)
            time.sleep(_CLAIM_SECONDS)  # somebody may be at removing it
        raise WeightsError(f"{self._folder} is in use by another process")

    def read(
        self, weights_digest: str, num_bytes: int, *, remove: bool = True
    ) -> memoryview | None:
        """The version's bytes, mapped and verified; None if they are not here.

        Args:
            weights_digest: names the version.
            num_bytes: its size.
            remove: a file that holds something else is removed.

        Raises:
            WeightsError: `weights_digest` is no digest.
        """
        path = self._path(weights_digest)
        try:
            # Non-blocking: a pipe of that name would keep this thread until somebody writes.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            data = _mapped(descriptor, num_bytes)
            if data is not None and xxhash.xxh3_128_hexdigest(data) == weights_digest:
                return data
            told = "removed" if remove else "not used"
            log.warning("%s is damaged or of another size: %s", path, told)
            # A good one may have taken its name meanwhile.
            if remove and _is_at(path, descriptor):
                path.unlink()
        except OSError as error:
            log.warning("%s cannot be read: %s", path, error)
        finally:
            os.close(descriptor)  # the mapping stays
        return None

    def write(self, weights_digest: str, data: Buffer) -> bool:
        """Share a version; False, with a line in the log, where the folder does not take it.

        The caller vouches for the digest; readers check it.

        Raises:
            WeightsError: `weights_digest` is no digest.
        """
        path = self._path(weights_digest)
        temporary = self._temporary()
        try:
            while (descriptor := _open_locked(temporary)) is None:
                temporary = self._temporary()  # `keep` of another process took it for a dead one's
            try:
                _write_all(descriptor, data)
                temporary.rename(path)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._tell("version %s is not shared in %s: %s", weights_digest, self._folder, error)
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            return False
        self._has_told = False
        return True

    def remove(self) -> None:
        """Remove the folder, unless a living process has claimed it."""
        self.remove_abandoned(self._folder)

    def keep(self, weights_digests: Collection[str]) -> None:
        """Remove all versions but these, and what the dead left; mapped ones stay readable."""
        try:
            names = os.listdir(self._folder)
        except OSError as error:
            self._tell("%s cannot be listed: %s", self._folder, error)
            return
        for name in names:
            path = self._folder / name
            if path.suffix in (_LOCK, _TEMPORARY):
                _remove_if_nobody_holds(path)
            elif _DIGEST.fullmatch(name) and name not in weights_digests:
                with contextlib.suppress(OSError):  # another process was quicker
                    path.unlink()

    def try_lock(self, weights_digest: str) -> WeightsLock | None:
        """The turn to fetch this version; None while another process or thread has it.

        Raises:
            WeightsError: `weights_digest` is no digest, or the folder cannot hold locks.
        """
        path = self._path(weights_digest).with_suffix(_LOCK)
        try:
            descriptor = _open_locked(path)
        except OSError as error:
            raise WeightsError(f"{self._folder} cannot hold a lock: {error}") from error
        return None if descriptor is None else WeightsLock(descriptor)

    def _tell(self, text: str, *facts: object) -> None:
        """Warn, once until the folder takes a version again."""
        log.log(logging.DEBUG if self._has_told else logging.WARNING, text, *facts)
        self._has_told = True

    def _make(self) -> None:
        for left in reversed(range(_MAKE_TRIES)):
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                _check_owned(self._folder)
            except OSError as error:
                if left and isinstance(error, FileExistsError | FileNotFoundError):
                    continue  # perhaps removed at this moment, as one that was left behind
                raise WeightsError(
                    f"{self._folder} cannot hold shared weights ({error}): {_REMEDY}"
                ) from error
            return

    def _path(self, weights_digest: str) -> Path:
        """The only way from a digest, which may come from the wire, to the file system."""
        if not _DIGEST.fullmatch(weights_digest):
            raise WeightsError(f"{weights_digest!r} is no xxh3-128 digest")
        return self._folder / weights_digest

    def _temporary(self) -> Path:
        return self._folder / f"{secrets.token_hex(8)}{_TEMPORARY}"


def _remove_if_abandoned(folder: Path) -> None:
    """Remove a folder of versions unless a living process has claimed it."""
    if (descriptor := _open_locked(folder / _OWNER)) is None:
        return
    try:
        for name in os.listdir(folder):
            is_ours = _DIGEST.fullmatch(name) or Path(name).suffix in (_LOCK, _TEMPORARY)
            if is_ours and name != _OWNER:
                (folder / name).unlink()
        # The lock is the last to go: who claims the folder before has to wait, and who claims it
        # from now on makes a lock of its own, with which the folder is not empty and stays.
        (folder / _OWNER).unlink()
        folder.rmdir()
        log.info("removed %s: no living process uses it", folder)
    finally:
        os.close(descriptor)


def _check_owned(folder: Path) -> None:
    """Raise WeightsError unless the folder is this user's and nobody else's."""
    facts = folder.lstat()
    problem = ""
    if not stat.S_ISDIR(facts.st_mode):
        problem = "is a link or a file, wanted a folder"
    elif facts.st_uid != os.geteuid():
        problem = f"belongs to user {facts.st_uid}, wanted {os.geteuid()}"
    elif facts.st_mode & 0o077:
        problem = f"has mode {stat.S_IMODE(facts.st_mode):04o}, wanted 0700"
    if problem:
        raise WeightsError(f"{folder} {problem}: others could swap the weights; {_REMEDY}")


def _mapped(descriptor: int, num_bytes: int) -> memoryview | None:
    """The bytes, read-only; None if it is no file of this user and size."""
    facts = os.fstat(descriptor)
    is_ours = stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid()
    if not is_ours or facts.st_size != num_bytes:
        return None
    if not num_bytes:
        return memoryview(b"")  # nothing cannot be mapped
    return memoryview(mmap.mmap(descriptor, num_bytes, access=mmap.ACCESS_READ))


def _write_all(descriptor: int, data: Buffer) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _open_locked(path: Path, *, shared: bool = False) -> int | None:
    """A descriptor of the file, made if need be, that holds its lock: alone, unless `shared`.

    None while another holds it, or when it was removed meanwhile: its lock would exclude nobody.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with contextlib.ExitStack() as on_failure:
        on_failure.callback(os.close, descriptor)
        with contextlib.suppress(BlockingIOError, FileNotFoundError):
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            if _is_at(path, descriptor):
                on_failure.pop_all()
                return descriptor
    return None


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the name still means the open file."""
    return os.path.samestat(os.fstat(descriptor), path.lstat())


def _remove_if_nobody_holds(path: Path) -> None:
    """Remove a lock or a temporary file that no living process works with."""
    with contextlib.suppress(OSError):  # another process was quicker
        if (descriptor := _open_locked(path)) is not None:
            try:
                path.unlink()
            finally:
                os.close(descriptor)
