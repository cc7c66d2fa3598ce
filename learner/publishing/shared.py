"""Whole versions as files for actors on the learner's host, from the first one to the run's end."""

import logging
import shutil
from collections import deque
from pathlib import Path

from protocol.errors import WeightsError
from protocol.weights import PackedWeights
from protocol.weights_files import WeightsFiles

log = logging.getLogger("learner.publishing")


class SharedVersions:
    """The newest versions in a folder that is this run's alone.

    Args:
        folder: made where it is missing, and claimed for this process's life; versions that a crash
            left there are deleted.
        retained: how many versions are kept there.

    Raises:
        WeightsError: the folder cannot be made, or is somebody else's.
    """

    def __init__(self, folder: Path, retained: int) -> None:
        self.folder = folder
        self._files = WeightsFiles(folder)
        self._claim = self._files.claim()
        self._has_told = False
        self._files.keep(())
        self._kept: deque[str] = deque(maxlen=retained)

    def write(self, packed: PackedWeights) -> bool:
        """Add a version and delete the oldest; False where there is no room.

        The log says so once. A folder that somebody removed is made again.
        """
        if not self.folder.exists() and not self._make_again():
            return False
        if packed.digest not in self._kept:
            self._kept.append(packed.digest)
        self._files.keep(self._kept)  # first: it is memory in most places
        return self._files.write(packed.digest, packed.data)

    def _make_again(self) -> bool:
        self._claim.release()  # of a file that is gone
        try:
            self._files = WeightsFiles(self.folder)
            self._claim = self._files.claim()
        except WeightsError as error:
            log.log(
                logging.DEBUG if self._has_told else logging.WARNING,
                "versions are not shared any more, actors fetch them: %s",
                error,
            )
            self._has_told = True
            return False
        log.warning("%s was removed: made again", self.folder)
        self._has_told = False
        return True

    def close(self) -> None:
        """Delete the folder; who reads a version goes on with it."""
        try:
            shutil.rmtree(self.folder)
        except OSError as error:
            log.warning("cannot delete %s: %s", self.folder, error)
        self._claim.release()
