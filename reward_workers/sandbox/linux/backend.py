"""Confined workers on Linux, by bubblewrap, in two ways with the same confinement.

    fork     one sandbox with a zygote, cloned into namespaces of its own for each worker: 2 ms
    fresh    one sandbox and one new interpreter for each worker

The kernel kills a sandbox when the thread that started it ends (`--die-with-parent`), so nothing
outlives the supervisor, however it dies. That is why sandboxes are started from the event loop's
own thread, and never from a pool of threads.
"""

import array
import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from protocol.errors import SandboxUnavailable
from reward_workers.sandbox.backend import SandboxFault, Spawned, Usage
from reward_workers.sandbox.bundle import harness_zip
from reward_workers.sandbox.harness.linux.confine import Place
from reward_workers.sandbox.jobs import Limits
from reward_workers.sandbox.layers import Layer, require, self_test
from reward_workers.sandbox.linux import bwrap, layers
from reward_workers.sandbox.linux.subprocesses import Child
from reward_workers.sandbox.linux.usage import read_usage
from reward_workers.sandbox.linux.worker import READY_SECONDS, NewWorker


class LinuxBackend:
    """What both ways share: the sandbox around the harness, the check of it, the workers alive."""

    name: str
    degraded: tuple[str, ...] = ()

    def __init__(self, packages: Path | None = None, bundle: bytes | None = None) -> None:
        self._packages = packages
        self._bundle = bundle or harness_zip()
        self._workers: set[NewWorker] = set()

    async def start(self) -> None:
        """Check each layer, by a worker that tests itself.

        Raises:
            SandboxUnavailable: a layer is missing; the message names it and the remedy.
        """
        require(await asyncio.to_thread(self._layers))
        try:
            worker = await self.spawn(Limits())
        except SandboxFault as fault:
            await self.close()
            raise SandboxUnavailable(self_test(str(fault)).sentence()) from None
        await discard(worker)

    async def spawn(self, limits: Limits) -> Spawned:
        """A new worker, confined and ready.

        Raises:
            SandboxFault: it did not become ready.
        """
        worker = NewWorker()
        self._workers.add(worker)
        worker.ended.add_done_callback(lambda _: self._workers.discard(worker))
        try:
            await self._make(worker, limits)
        except BaseException:
            worker.abandon()
            raise
        finally:
            worker.close_theirs()
        return await worker.ready()

    def _layers(self) -> list[Layer]:
        return layers.check_all()

    async def _make(self, worker: NewWorker, limits: Limits) -> None:
        """Start what takes the worker's descriptors."""
        raise NotImplementedError

    def read_usage(self, pid: int) -> Usage | None:
        """What a process has used; None when it has ended."""
        return read_usage(pid)

    async def close(self) -> None:
        """End every worker; none is left when this returns."""
        workers = list(self._workers)
        for worker in workers:
            worker.kill()
        await asyncio.gather(*(asyncio.shield(worker.ended) for worker in workers))

    def _start_sandbox(self, arguments: Sequence[str], descriptors: Sequence[int]) -> Child:
        harness = os.memfd_create("harness")
        try:
            os.write(harness, self._bundle)
            os.lseek(harness, 0, os.SEEK_SET)
            python = bwrap.own_interpreter()
            line = bwrap.command(python, self._packages, harness, arguments)
            return Child(line, [harness, *descriptors])
        except OSError as error:
            raise SandboxFault(f"a sandbox could not be started: {error}") from None
        finally:
            os.close(harness)

    def _place(self, *, own_user: bool) -> str:
        packages = bwrap.PACKAGES if self._packages else None
        tmp = bwrap.ENVIRONMENT["TMPDIR"]
        place = Place(tmp=tmp, harness=bwrap.HARNESS, packages=packages, own_user=own_user)
        return json.dumps(place._asdict())


class LinuxFresh(LinuxBackend):
    """A sandbox for each worker."""

    name = "linux-fresh"

    def __init__(self, packages: Path | None = None, bundle: bytes | None = None) -> None:
        super().__init__(packages, bundle)
        self._children: set[Child] = set()

    async def _make(self, worker: NewWorker, limits: Limits) -> None:
        settings = [self._place(own_user=True), json.dumps(asdict(limits))]
        arguments = ["fresh", *settings, *map(str, worker.theirs)]
        self._keep(self._start_sandbox(arguments, worker.theirs))

    def _keep(self, child: Child) -> None:
        self._children.add(child)
        child.ended.add_done_callback(lambda _: self._children.discard(child))

    async def close(self) -> None:
        """End every worker; none is left when this returns."""
        children = list(self._children)
        for child in children:
            child.kill()
        await asyncio.gather(*(asyncio.shield(child.ended) for child in children))
        await super().close()


class LinuxFork(LinuxBackend):
    """A zygote in one sandbox, and a clone of it for each worker."""

    name = "linux-fork"

    def __init__(self, packages: Path | None = None, bundle: bytes | None = None) -> None:
        super().__init__(packages, bundle)
        self._starting = asyncio.Lock()
        self._zygote: Child | None = None
        self._control: socket.socket | None = None

    async def _make(self, worker: NewWorker, limits: Limits) -> None:
        control = await self._running_zygote()
        request = json.dumps({"limits": asdict(limits)}).encode()
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", worker.theirs))
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not _try_sendmsg(control, request, [rights]):
                    await _writable(control)
        except (OSError, TimeoutError) as error:
            raise SandboxFault(f"the zygote does not listen: {error!r}") from None

    async def _running_zygote(self) -> socket.socket:
        """The way to the zygote, started when there is none or it has died."""
        async with self._starting:
            if self._control is not None and self._zygote and not self._zygote.ended.done():
                return self._control
            self._drop_control()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.setblocking(False)
            with theirs, contextlib.ExitStack() as undo:
                undo.callback(ours.close)
                arguments = ["zygote", self._place(own_user=False), str(theirs.fileno())]
                self._zygote = self._start_sandbox(arguments, [theirs.fileno()])
                theirs.close()
                await _hear_ready(ours, self._zygote)
                undo.pop_all()
            self._control = ours
            return ours

    async def close(self) -> None:
        """End every worker; none is left when this returns."""
        if self._zygote is not None:
            self._zygote.kill()
            await asyncio.shield(self._zygote.ended)
        if self._control is not None:
            # closed by the kernel once the last process of the sandbox that held it has gone
            with contextlib.suppress(ConnectionError):
                await asyncio.get_running_loop().sock_recv(self._control, 1)
        self._drop_control()
        await super().close()

    def _drop_control(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None


async def discard(worker: Spawned) -> None:
    """End a worker that is not needed, and close what is ours of it."""
    worker.kill()
    await worker.ended
    worker.channel.close()
    os.close(worker.stdout)
    os.close(worker.stderr)


async def _hear_ready(control: socket.socket, zygote: Child) -> None:
    try:
        async with asyncio.timeout(READY_SECONDS):
            word = await asyncio.get_running_loop().sock_recv(control, 16)
    except (TimeoutError, ConnectionError) as error:
        word = repr(error).encode()
    if word != b"ready":
        zygote.kill()
        await asyncio.shield(zygote.ended)
        raise SandboxFault(f"the zygote did not start: {zygote.last_words() or repr(word)}")


def _try_sendmsg(
    control: socket.socket, message: bytes, ancillary: "list[tuple[int, int, array.array[int]]]"
) -> bool:
    try:
        control.sendmsg([message], ancillary)
    except BlockingIOError:
        return False
    return True


async def _writable(control: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    writable: asyncio.Future[None] = loop.create_future()
    # a descriptor of its own, since several spawns may wait at a time
    with control.dup() as waited:
        loop.add_writer(waited, lambda: writable.done() or writable.set_result(None))
        try:
            await writable
        finally:
            loop.remove_writer(waited)
