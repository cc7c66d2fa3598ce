"""Calls of the training thread that the exchange thread carries out; none can wait for ever."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from protocol.errors import RunStopped

Command = Callable[[], None]
T = TypeVar("T")


class Commands:
    """A queue of commands between two threads, and the end of it.

    Args:
        wake: lets the exchange thread look at the queue now.
    """

    def __init__(self, wake: Command) -> None:
        self._wake = wake
        self._queue: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._awaited: list[Future[Any]] = []
        self._ended: RunStopped | None = None

    # For the training thread.

    def put(self, command: Command) -> None:
        """Have a command carried out, without waiting.

        Raises:
            RunStopped: the exchange thread has ended.
        """
        with self._lock:
            self._raise_if_ended()
            self._queue.put(command)
        self._wake()

    def ask(self, command: Command, answer: "Future[T]") -> T:
        """Have a command carried out, and wait until something settles its answer.

        Raises:
            RunStopped: the exchange thread has ended, before or meanwhile.
        """
        with self._lock:
            self._raise_if_ended()
            self._awaited.append(answer)
            self._queue.put(command)
        self._wake()
        try:
            return answer.result()
        finally:
            self._awaited.remove(answer)

    def _raise_if_ended(self) -> None:
        if self._ended is not None:
            raise RunStopped(str(self._ended))

    # For the exchange thread.

    def carry_out(self) -> None:
        """Carry out all that is queued."""
        while not self._queue.empty():
            self._queue.get()()

    def end(self, reason: RunStopped) -> None:
        """Raise `reason` in the call that waits, and in every later one."""
        with self._lock:
            self._ended = reason
            for answer in self._awaited:
                if not answer.done():
                    answer.set_exception(reason)
