"""A child process under an event loop: started here and now, reaped when it ends."""

import asyncio
import os
import subprocess
from collections.abc import Mapping, Sequence

_LAST_WORDS_BYTES = 2000


class Child:
    """A process with descriptors of ours, in a session of its own, and no other tie.

    Ctrl-C in a terminal does not reach it. Raises OSError where it cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        descriptors: Sequence[int],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._words = os.memfd_create("words")
        try:
            self._process = subprocess.Popen(  # noqa: S603 - our own command line
                command,
                stdin=subprocess.DEVNULL,
                stdout=self._words,
                stderr=self._words,
                pass_fds=descriptors,
                start_new_session=True,
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath), **(environment or {})},
            )
        except OSError:
            os.close(self._words)
            raise
        self._said = ""
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._pidfd, self._reap)

    def kill(self) -> None:
        """End it; may be called again."""
        if not self.ended.done():
            self._process.kill()

    def last_words(self) -> str:
        """The last line that it printed, once it has ended."""
        return self._said.rpartition("\n")[2]

    def _reap(self) -> None:
        if self._process.poll() is None:
            return
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        size = os.fstat(self._words).st_size
        words = os.pread(self._words, _LAST_WORDS_BYTES, max(0, size - _LAST_WORDS_BYTES))
        self._said = words.decode(errors="replace").strip()
        os.close(self._words)
        if not self.ended.done():
            self.ended.set_result(None)
