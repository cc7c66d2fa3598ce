"""Saving while training goes on: arrays are held on to at once, written in a thread."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from learner.checkpoints.best import BestCheckpoint
from learner.checkpoints.contents import contents, num_bytes
from learner.checkpoints.position import Position
from learner.checkpoints.retention import folder_of, prune_checkpoints
from learner.checkpoints.storing import Contents, remove_leftovers, store
from learner.disk import room
from learner.parameters import Parameters
from protocol.config import RunConfig
from protocol.errors import CheckpointError
from protocol.policy import Policy

log = logging.getLogger("learner.checkpoints")


class CheckpointWriter:
    """Writes one checkpoint at a time, and deletes old ones.

    A save that fails leaves nothing behind and is logged; the run goes on, and the next one tries
    again. Until a save is done, the arrays that it writes stay in memory beside their successors.

    Args:
        folder: of the checkpoints; nobody else writes there.
        config: the run.
        facts: kept in each checkpoint and returned by `restore_checkpoint`.
        before: called in the thread before anything is written: what a checkpoint relies on must
            be on disk first.
        best: is told of what was saved, and says which one must stay; None: none must.
    """

    def __init__(
        self,
        folder: Path,
        config: RunConfig,
        facts: Mapping[str, str],
        before: Callable[[], None] = lambda: None,
        best: BestCheckpoint | None = None,
    ) -> None:
        self._folder = folder
        self._config = config
        self._facts = dict(facts)
        self._before = before
        self._best = best
        self._thread: threading.Thread | None = None
        self._failure = ""
        self.failed_before = False
        """Whether the save before the last one failed."""
        self._step = -1
        try:
            remove_leftovers(folder)
        except OSError as error:
            log.warning("what a crash left in %s cannot be deleted: %s", folder, error)

    def save(self, position: Position, policy: Policy, parameters: Parameters) -> None:
        """Write `step_<step>` of the state that is there now; returns before it is on disk.

        Waits first for an earlier save that is still being written.
        """
        self._join()
        self.failed_before = bool(self._failure)
        found = contents(position, policy, parameters, self._config, self._facts)
        self._step = position.step
        self._failure = "it was not finished"
        thread = threading.Thread(
            target=self._write, args=(found,), name="checkpoints", daemon=True
        )
        thread.start()
        self._thread = thread  # only now: a signal may end the run between any two lines

    def wait(self) -> None:
        """Wait until nothing is being written.

        Raises:
            CheckpointError: the last save failed.
        """
        self._join()
        if self._failure:
            raise CheckpointError(self._failure)

    def close(self, seconds: float) -> None:
        """Wait for so long, at the end of a run that was told to stop."""
        self._join(seconds)
        if self._thread is not None:
            log.warning(
                "the checkpoint of step %d was not on disk after %.1f s: the run goes on from the "
                "one before",
                *(self._step, seconds),
            )

    def _join(self, seconds: float | None = None) -> None:
        if self._thread is None:
            return
        self._thread.join(seconds)
        if not self._thread.is_alive():
            self._thread = None

    def _write(self, found: Contents) -> None:
        began = time.monotonic()
        wanted = num_bytes(found)
        try:
            self._before()
            path = store(self._folder, self._step, found)
        except OSError as error:
            self._failure = (
                f"cannot save {folder_of(self._folder, self._step)} of {wanted:,} bytes: {error} "
                f"({room(self._folder)}). The checkpoints before it are whole: free space, or set "
                "checkpoints.keep_last lower"
            )
            log.error("%s; the run goes on, the next save tries again", self._failure)
            return
        self._failure = ""
        log.info("saved %s (%d bytes in %.2f s)", path, wanted, time.monotonic() - began)
        section, best = self._config.checkpoints, self._best
        try:
            if best is not None:
                best.saved(self._step)
            stays = None if best is None else best.step
            prune_checkpoints(path, section.keep_last, section.keep_interval, stays)
        except OSError as error:
            log.warning("an old checkpoint in %s cannot be deleted: %s", self._folder, error)
