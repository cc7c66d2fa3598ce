"""Whole versions as files for actors on the learner's host, from the first one to the run's end."""

import logging
import shutil
from collections import deque
from pathlib import Path

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
        self._files.keep(())
        self._kept: deque[str] = deque(maxlen=retained)

    def write(self, packed: PackedWeights) -> bool:
        """Add a version and delete the oldest; False where there is no room, which is logged."""
        if packed.digest not in self._kept:
            self._kept.append(packed.digest)
        self._files.keep(self._kept)  # first: it is memory in most places
        return self._files.write(packed.digest, packed.data)

    def close(self) -> None:
        """Delete the folder; who reads a version goes on with it."""
        try:
            shutil.rmtree(self.folder)
        except OSError as error:
            log.warning("cannot delete %s: %s", self.folder, error)
        self._claim.release()
