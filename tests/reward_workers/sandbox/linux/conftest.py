"""Real workers on this machine, in each of the ways that Linux has, that run what a test says."""

import asyncio
import json
import os
import subprocess
import sys
import textwrap

import pytest

from reward_workers.sandbox import bundle
from reward_workers.sandbox.harness import frames
from reward_workers.sandbox.jobs import Limits
from reward_workers.sandbox.linux import bwrap

if sys.platform != "linux":
    pytest.skip("Linux only", allow_module_level=True)

from reward_workers.sandbox.linux.backend import LinuxFork, LinuxFresh, discard
from reward_workers.sandbox.linux.direct import LinuxDirect

HARNESS = "reward_workers/sandbox/harness"
CAN_GO_DIRECT = os.geteuid() != 0 or bwrap.is_reachable(sys.base_prefix)
WITH_NAMESPACES = [LinuxFork, LinuxFresh]
WAYS = [*WITH_NAMESPACES, *([LinuxDirect] if CAN_GO_DIRECT else [])]
DEFAULTS = Limits()
# a worker that runs what it is told and answers with `result`
PROBE = b"""
def preload():
    import json, math
def serve(channel):
    from reward_workers.sandbox.harness import frames
    while True:
        names = {"__name__": "probe"}
        try:
            exec(frames.receive(channel, 1 << 20)["code"], names)
        except Exception as error:
            names["result"] = f"{type(error).__name__}: {error}"
        frames.send(channel, {"result": names.get("result")}, 1 << 20)
"""


def probing(**changed: bytes) -> bytes:
    """The harness with the worker above, and perhaps with other modules changed."""
    sources = bundle.sources() | {f"{HARNESS}/worker": PROBE}
    for name, more in changed.items():
        folder = HARNESS if name == "start" else f"{HARNESS}/linux"
        sources[f"{folder}/{name}"] += more
    return bundle.pack(sources)


class Probe:
    """A backend, and what a test asks of its workers."""

    def __init__(self, way, packages=None, **changed: bytes) -> None:
        self.backend = way(packages, probing(**changed))
        self.has_namespaces = way is not LinuxDirect

    async def spawn(self, limits=DEFAULTS):
        return await self.backend.spawn(limits)

    async def answer(self, code, limits=DEFAULTS):
        """What a new worker's code leaves in `result`."""
        worker = await self.spawn(limits)
        try:
            return await self.ask(worker, code)
        finally:
            await discard(worker)

    async def end_of(self, code, limits=DEFAULTS):
        """How a worker that runs this ends by itself."""
        worker = await self.spawn(limits)
        await self.say(worker, code)
        ended = await asyncio.wait_for(worker.ended, 30)
        self.close_fds(worker)
        return ended

    async def ask(self, worker, code):
        await self.say(worker, code)
        return (await asyncio.wait_for(self._hear(worker), 30))["result"]

    async def say(self, worker, code):
        message = frames.pack({"code": textwrap.dedent(code)}, 1 << 20)
        await asyncio.get_running_loop().sock_sendall(worker.channel, message)

    async def discard(self, worker):
        await discard(worker)

    def close_fds(self, worker):
        worker.channel.close()
        os.close(worker.stdout)
        os.close(worker.stderr)

    async def _hear(self, worker):
        data = b""
        while len(data) < 4 or len(data) < 4 + frames.LENGTH.unpack_from(data)[0]:
            part = await asyncio.get_running_loop().sock_recv(worker.channel, 1 << 16)
            if not part:
                raise EOFError
            data += part
        return frames.unpack(data[4:])


@pytest.fixture
async def make_probe():
    """Makes probes that are closed at the end."""
    made = []

    def make(way, packages=None, **changed):
        made.append(Probe(way, packages, **changed))
        return made[-1]

    yield make
    for probe in made:
        await probe.backend.close()


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def probe(request, make_probe):
    return make_probe(request.param)


@pytest.fixture(params=WITH_NAMESPACES, ids=lambda way: way.name)
def namespaced(request, make_probe):
    return make_probe(request.param)


@pytest.fixture
def fork(make_probe):
    return make_probe(LinuxFork)


@pytest.fixture
def unconfined():
    """Runs the same code in a plain interpreter, for what it leaves in `result`."""

    def run(code):
        program = f"import json\n{textwrap.dedent(code)}\nprint(json.dumps(result))"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run
