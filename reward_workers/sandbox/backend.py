"""The interface between the pool and an operating system: how a confined worker comes to be.

A backend hands out workers that are confined, self-tested and ready, and that have heard nothing
yet. Everything above this interface is the same on Linux and macOS.
"""

import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from reward_workers.sandbox.jobs import Limits


class SandboxFault(Exception):  # noqa: N818 - a fault on the trusted side, which the pool handles
    """A worker could not be made, or was lost before it heard anything."""


@dataclass(frozen=True)
class Ended:
    """How a worker's process ended."""

    exit_code: int | None
    """None where a signal ended it."""
    signal: int | None
    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Usage:
    """What a live process has used so far."""

    cpu_seconds: float
    """Of all its threads, the ended ones too."""
    waiting_seconds: float
    """Runnable, but waiting for a CPU."""
    resident_bytes: int
    num_threads: int


@dataclass(frozen=True, eq=False)
class Spawned:
    """A confined worker that is ready for its one job."""

    pid: int
    """In the supervisor's own process namespace."""
    channel: socket.socket
    """Stream socket, not blocking; frames of harness/frames.py. No byte was sent on it yet, and
    all that the worker has said (that it is ready) was read."""
    stdout: int
    """Read end of a pipe, not blocking."""
    stderr: int
    kill: Callable[[], None]
    """Ends the worker and all that it may have started, at once; may be called again."""
    ended: Awaitable[Ended]
    """Done once the worker's process has ended, in whatever way. May be awaited once."""


class Backend(Protocol):
    """Makes confined workers. One per pool; used by the pool's event loop only."""

    name: str
    """Such as "linux-fork"; part of the verdict cache's key."""
    degraded: tuple[str, ...]

    async def start(self) -> None:
        """Check every layer of confinement, by a worker that tests itself.

        Raises:
            SandboxUnavailable: a layer is missing; the message names it and the remedy.
        """
        ...

    async def spawn(self, limits: Limits) -> Spawned:
        """A new worker, confined and ready. Several may be awaited at a time.

        Raises:
            SandboxFault: it did not become ready.
        """
        ...

    def read_usage(self, pid: int) -> Usage | None:
        """What a process has used; None when it has ended."""
        ...

    async def close(self) -> None:
        """End every worker; none is left when this returns."""
        ...
