"""A backend whose workers are scripts of a test: they can say whatever a hostile one could."""

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from reward_workers.sandbox.backend import Ended, SandboxFault, Spawned, Usage
from reward_workers.sandbox.harness import frames
from reward_workers.sandbox.jobs import Limits


class Gone(Exception):  # noqa: N818
    """A scripted worker's process ends now, like this."""

    def __init__(self, exit_code: int | None = 0, signal: int | None = None, **used: Any) -> None:
        self.ended = Ended(exit_code, signal, used.get("cpu", 0.0), used.get("peak", 0))


class ScriptedWorker:
    """A worker's end of the channel and of its pipes."""

    def __init__(self, channel: socket.socket, stdout: int, stderr: int) -> None:
        self.channel = channel
        self.stdout = stdout
        self.stderr = stderr
        self.usage = Usage(0.0, 0.0, 1 << 20, 1)

    async def hear(self) -> dict[str, Any]:
        (length,) = frames.LENGTH.unpack(await self._exactly(frames.LENGTH.size))
        return frames.unpack(await self._exactly(length))

    async def say(self, **message: Any) -> None:
        await self.send(frames.pack(message, 1 << 30))

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.channel, data)

    async def hang(self) -> None:
        await asyncio.get_running_loop().create_future()

    def gone(self, exit_code: int | None = 0, signal: int | None = None, **used: Any) -> Gone:
        return Gone(exit_code, signal, **used)

    async def _exactly(self, num_bytes: int) -> bytes:
        data = b""
        while len(data) < num_bytes:
            part = await asyncio.get_running_loop().sock_recv(self.channel, num_bytes - len(data))
            if not part:
                raise Gone(1)
            data += part
        return data


Script = Callable[[ScriptedWorker], Awaitable[None]]


class ScriptedBackend:
    """Hands out workers that run one script each: the next of a list, then the last for ever."""

    name = "scripted"
    degraded: tuple[str, ...] = ()

    def __init__(self, *scripts: Script | Exception) -> None:
        self.scripts = list(scripts)
        self.workers: dict[int, ScriptedWorker] = {}
        self.killed: set[int] = set()
        self.spawned = 0
        self.closed = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        pass

    async def spawn(self, limits: Limits) -> Spawned:
        await asyncio.sleep(0)
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        if isinstance(script, Exception):
            raise script
        ours, theirs = socket.socketpair()
        out, worker_out = os.pipe()
        err, worker_err = os.pipe()
        for fd in (out, err):
            os.set_blocking(fd, False)
        for end in (ours, theirs):
            end.setblocking(False)
        self.spawned += 1
        pid = self.spawned
        worker = self.workers[pid] = ScriptedWorker(theirs, worker_out, worker_err)
        ended: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._live(pid, worker, script, ended))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.sleep(0)  # the script has begun: a cancel now reaches it

        def kill() -> None:
            self.killed.add(pid)
            task.cancel()

        return Spawned(pid, ours, out, err, kill, ended)

    def read_usage(self, pid: int) -> Usage | None:
        return self.workers[pid].usage if pid in self.workers else None

    async def close(self) -> None:
        self.closed = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _live(
        self,
        pid: int,
        worker: ScriptedWorker,
        script: Script,
        ended: "asyncio.Future[Ended]",
    ) -> None:
        end = Ended(0, None, 0.0, 0)
        try:
            await script(worker)
        except Gone as gone:
            end = gone.ended
        except (asyncio.CancelledError, OSError):
            end = Ended(None, signal.SIGKILL, worker.usage.cpu_seconds, 0)
        finally:
            worker.channel.close()
            os.close(worker.stdout)
            os.close(worker.stderr)
            del self.workers[pid]
            ended.set_result(end)


@pytest.fixture
def scripted():
    """Builds a backend of scripted workers."""
    return ScriptedBackend


@pytest.fixture
def until():
    """Lets the event loop run until something is so."""

    async def until(is_so: Callable[[], Any]) -> None:
        async with asyncio.timeout(20):
            while not is_so():  # noqa: ASYNC110 - what is awaited has no event
                await asyncio.sleep(0.001)

    return until


@pytest.fixture
def fault():
    """The fault of a backend that cannot make a worker."""
    return SandboxFault("no worker today")


@pytest.fixture
def count_fds():
    """Counts the open descriptors of this process."""

    def count() -> int:
        return len(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd"))

    return count
