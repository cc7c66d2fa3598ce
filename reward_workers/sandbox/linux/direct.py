"""Confined workers on Linux without namespaces, where the user has allowed that (in a container).

Landlock, seccomp and resource limits hold as they do elsewhere. What is lost: the file system is
there to be listed and stat()ed, though not read; processes of the same user share their numbering;
tmp_bytes bounds each file, not their sum. Each worker writes in a folder of its own, which is
removed after it.
"""

import asyncio
import json
import os
import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from reward_workers.sandbox.backend import SandboxFault
from reward_workers.sandbox.harness.linux.confine import Place
from reward_workers.sandbox.jobs import Limits
from reward_workers.sandbox.layers import Layer
from reward_workers.sandbox.linux import bwrap, layers
from reward_workers.sandbox.linux.backend import LinuxFresh
from reward_workers.sandbox.linux.subprocesses import Child
from reward_workers.sandbox.linux.worker import NewWorker


class LinuxDirect(LinuxFresh):
    """A process for each worker, in this process's own namespaces."""

    name = "linux-direct"
    degraded: tuple[str, ...] = ("namespaces",)

    def __init__(self, packages: Path | None = None, bundle: bytes | None = None) -> None:
        super().__init__(packages, bundle)
        self._folder: Path | None = None
        self._removals: set[asyncio.Future[None]] = set()

    async def close(self) -> None:
        """End every worker; none is left when this returns."""
        await super().close()
        await asyncio.gather(*self._removals)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _layers(self) -> list[Layer]:
        found = layers.confinement()
        return [*found, _interpreter(self._packages)] if os.geteuid() == 0 else found

    async def _make(self, worker: NewWorker, limits: Limits) -> None:
        self._folder = self._folder or _shared_folder(self._bundle)
        tmp = tempfile.mkdtemp(dir=self._folder)
        worker.ended.add_done_callback(lambda _: self._remove(tmp))
        if os.geteuid() == 0:
            os.chown(tmp, bwrap.NOBODY, bwrap.NOBODY)
        harness = str(self._folder / "harness.zip")
        packages = str(self._packages) if self._packages else None
        place = Place(tmp=tmp, harness=harness, packages=packages, own_mounts=False)
        settings = [json.dumps(place._asdict()), json.dumps(asdict(limits))]
        line = [bwrap.own_interpreter().executable, *bwrap.PYTHON_OPTIONS, harness, "fresh"]
        line += [*settings, *map(str, worker.theirs)]
        if os.geteuid() == 0:
            line = [*bwrap.DROP_ROOT, *line]
        environment = {**bwrap.ENVIRONMENT, "HOME": tmp, "TMPDIR": tmp}
        try:
            self._keep(Child(line, worker.theirs, environment))
        except OSError as error:
            raise SandboxFault(f"a worker could not be started: {error}") from None

    def _remove(self, tmp: str) -> None:
        loop = asyncio.get_running_loop()
        removal = loop.run_in_executor(None, lambda: shutil.rmtree(tmp, ignore_errors=True))
        self._removals.add(removal)
        removal.add_done_callback(self._removals.discard)


def _shared_folder(bundle: bytes) -> Path:
    """A folder that anyone may pass and only this user may change, with the harness in it."""
    folder = Path(tempfile.mkdtemp(prefix="sandbox-"))
    folder.chmod(0o711)
    harness = folder / "harness.zip"
    harness.write_bytes(bundle)
    harness.chmod(0o444)
    return folder


def _interpreter(packages: Path | None) -> Layer:
    """Without mounts, root cannot show the worker's user what that user cannot reach."""
    prefix = bwrap.own_interpreter().prefix
    wanted = [prefix, *([str(packages)] if packages else [])]
    hidden = [folder for folder in wanted if not bwrap.is_reachable(folder)]
    remedy = "start as an ordinary user, or install Python where all can read it"
    layer = Layer("interpreter", True, f"{prefix} can be read by the worker's user", remedy)
    if not hidden:
        return layer
    return replace(layer, ok=False, detail=f"{hidden[0]} cannot be reached by the worker's user")
