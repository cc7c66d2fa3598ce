"""The macOS backend: a fresh interpreter per candidate, which confines itself with Seatbelt.

Not exercised on a Mac yet. There is no fork server: Accelerate and the Objective-C runtime are not
safe after a fork. With fork and exec refused, one SIGKILL ends all that a candidate is. What the
kernel does not bound is watched from here: the size of the worker's folder by this file, memory
(physical footprint), CPU time and threads by the pool's meter.
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from protocol.errors import SandboxUnavailable
from reward_workers.sandbox.backend import Ended, SandboxFault, Spawned, Usage
from reward_workers.sandbox.bundle import harness_zip
from reward_workers.sandbox.harness import frames
from reward_workers.sandbox.jobs import Limits
from reward_workers.sandbox.layers import require, self_test
from reward_workers.sandbox.macos import darwin
from reward_workers.sandbox.macos.child import close_fds, start_child
from reward_workers.sandbox.macos.layers import check_all
from reward_workers.sandbox.macos.reaper import Reaper
from reward_workers.sandbox.macos.scratch import is_over, make_scratch, remove_scratch

READY_SECONDS = 30.0
"""For an interpreter to start, confine and test itself, on a busy machine too."""
WATCH_SECONDS = 0.5
"""Between two looks at the folders of the workers."""
STDERR_BYTES = 2048
HARNESS = "harness.zip"


@dataclass(frozen=True)
class _Worker:
    spawned: Spawned
    ended: asyncio.Future[Ended]
    tmp: Path
    tmp_bytes: int


def base_interpreter() -> str:
    """The interpreter under any virtual environment: real path, for Seatbelt."""
    return os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)


def worker_command(
    archive: Path, channel: int, tmp: Path, packages: Path | None, limits: Limits
) -> list[str]:
    """Arguments of a worker's process."""
    settings = {
        "channel": channel,
        "tmp": str(tmp),
        "harness": str(archive),
        "packages": None if packages is None else str(packages),
        "limits": dataclasses.asdict(limits),
    }
    return [base_interpreter(), "-s", "-S", "-P", str(archive), "macos", json.dumps(settings)]


def worker_environment(tmp: Path) -> dict[str, str]:
    """All of a worker's environment: what -I gives plus a fixed hash seed and time zone."""
    return {
        "HOME": str(tmp),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        "TMPDIR": str(tmp),
        "TZ": "UTC",
    }


class MacosBackend:
    """Makes workers confined by Seatbelt; see backend.Backend."""

    name = "macos-fresh"
    degraded: tuple[str, ...] = ()

    def __init__(self, packages: Path | None = None) -> None:
        """With a tree of packages that candidates may import."""
        self._packages = None if packages is None else packages.resolve()
        self._folder: Path | None = None
        self._reaper = Reaper()
        self._workers: dict[int, _Worker] = {}
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Check every layer, the last by a worker that tests itself.

        Raises:
            SandboxUnavailable: a layer is missing.
        """
        require(check_all())
        self._folder = _private_folder()
        self._reaper.start()
        self._watch = asyncio.create_task(self._watch_folders())
        try:
            probe = await self.spawn(Limits())
        except SandboxFault as fault:
            await self.close()
            raise SandboxUnavailable(self_test(str(fault)).sentence()) from None
        probe.kill()
        close_fds(probe)

    async def spawn(self, limits: Limits) -> Spawned:
        """A new worker, confined and ready.

        Raises:
            SandboxFault: it did not become ready.
        """
        worker = self._start_worker(limits)
        try:
            async with asyncio.timeout(READY_SECONDS):
                await _read_ready(worker.spawned)
        except BaseException as error:
            worker.spawned.kill()
            await asyncio.shield(worker.ended)
            said = _read_tail(worker.spawned.stderr)
            close_fds(worker.spawned)
            if isinstance(error, (TimeoutError, EOFError, frames.FrameError, OSError)):
                why = " ".join(part for part in (str(error), said) if part)
                raise SandboxFault(
                    f"a worker did not become ready: {why or type(error).__name__}"
                ) from None
            raise
        return worker.spawned

    def read_usage(self, pid: int) -> Usage | None:
        """What a worker has used; None when it has ended."""
        used = darwin.read_process(pid)
        if used is None:
            return None
        return Usage(used.cpu_seconds, used.waiting_seconds, used.footprint_bytes, used.num_threads)

    async def close(self) -> None:
        """End every worker; none is left when this returns."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
        workers = list(self._workers.values())
        for worker in workers:
            worker.spawned.kill()
        if workers:
            await asyncio.wait([worker.ended for worker in workers])
        self._reaper.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _start_worker(self, limits: Limits) -> _Worker:
        assert self._folder is not None, "the backend was not started"
        archive, tmp = self._folder / HARNESS, make_scratch(self._folder)
        try:
            spawned = start_child(
                lambda channel: worker_command(archive, channel, tmp, self._packages, limits),
                worker_environment(tmp),
                tmp,
                lambda: remove_scratch(tmp),
            )
        except OSError as error:
            remove_scratch(tmp)
            raise SandboxFault(f"a worker could not be started: {error}") from error
        ended = asyncio.ensure_future(spawned.ended)
        worker = _Worker(spawned, ended, tmp, limits.tmp_bytes)
        self._workers[spawned.pid] = worker
        self._reaper.register(spawned.pid)
        ended.add_done_callback(lambda _: self._forget(spawned.pid))
        return worker

    def _forget(self, pid: int) -> None:
        self._workers.pop(pid, None)
        self._reaper.unregister(pid)

    async def _watch_folders(self) -> None:
        """Kill every worker whose folder grows over its limit."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            for worker in list(self._workers.values()):
                if await asyncio.to_thread(is_over, worker.tmp, worker.tmp_bytes):
                    worker.spawned.kill()


def _private_folder() -> Path:
    """A folder that only this user may enter, with the harness in it."""
    folder = Path(tempfile.mkdtemp(prefix="sandbox-")).resolve()
    archive = folder / HARNESS
    archive.write_bytes(harness_zip())
    archive.chmod(0o400)
    return folder


async def _read_ready(spawned: Spawned) -> None:
    header = await _exactly(spawned, frames.LENGTH.size)
    (length,) = frames.LENGTH.unpack(header)
    if length > frames.MAX_FROM_WORKER:
        raise frames.FrameError(f"a message of {length} bytes")
    message: Mapping[str, object] = frames.unpack(await _exactly(spawned, length))
    if message != {"ready": True}:
        raise frames.FrameError(str(message.get("fault", "it said something else")))


async def _exactly(spawned: Spawned, num_bytes: int) -> bytes:
    loop, read = asyncio.get_running_loop(), b""
    while len(read) < num_bytes:
        part = await loop.sock_recv(spawned.channel, num_bytes - len(read))
        if not part:
            raise EOFError("the worker has gone")
        read += part
    return read


def _read_tail(fd: int) -> str:
    """The last line that an ended worker wrote: the exception of its traceback."""
    said = b""
    with contextlib.suppress(OSError):
        while part := os.read(fd, 1 << 16):
            said = (said + part)[-STDERR_BYTES:]
    return said.decode(errors="replace").strip().rpartition("\n")[2]
