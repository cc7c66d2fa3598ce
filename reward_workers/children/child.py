"""A reward worker's child as the worker sees it: started, asked, watched, killed."""

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from protocol.config import RewardConfig
from protocol.errors import ConfigError, RewardError, SandboxUnavailable
from protocol.messages import ScoreTask
from protocol.supervise import describe_exit
from reward_workers.calling import Outcome
from reward_workers.children.channel import Garbage, Said, pack, receive
from reward_workers.children.inside import REFUSED_SANDBOX
from reward_workers.children.output import OutputLog
from reward_workers.children.sandbox_requests import answer
from reward_workers.children.usage import ReadUsage, system_usage
from reward_workers.sandbox.backend import Usage
from reward_workers.sandbox.jobs import Limits, Sandbox, Verdict
from reward_workers.sandbox.judging.meter import Meter
from reward_workers.sandbox.judging.verdicts import Stopped
from reward_workers.thinking import NO_THOUGHTS, Thinking

TIMEOUT = "reward_timeout"
MEMORY = "reward_memory"
CRASHED = "reward_crashed"

START_SECONDS = 300.0
"""To import and bind the rewards; a machine that is busy may need long."""
WATCH_SECONDS = 0.05
"""Between two looks at what a child uses."""
BACKSTOP = 10
"""Wall seconds for each second of a time limit."""
NO_USAGE = Usage(0.0, 0.0, 0, 0)

_OUTCOMES = TypeAdapter(list[Outcome])
_INDEX = TypeAdapter(int)
_BOUND = TypeAdapter(list[tuple[bool, bool]])


class ChildLost(Exception):  # noqa: N818 - a state, for the worker to handle
    """A child that is dead or was killed in the middle of a call."""

    def __init__(self, status: str, detail: str) -> None:
        self.status = status
        """What becomes of a sample that was alone in the call."""
        self.detail = detail
        super().__init__(f"{status}: {detail}")


class Traits(NamedTuple):
    """What a bound reward asks for."""

    uses_sandbox: bool
    needs_network: bool


@dataclass(frozen=True)
class ChildSettings:
    """What all children of a run are started with."""

    rewards: tuple[RewardConfig, ...]
    memory_bytes: int
    network_anyway: bool = False
    """Where the network cannot be taken from a child, go on."""
    thinking: Thinking = NO_THOUGHTS
    """How the model writes thoughts."""
    read_usage: ReadUsage | None = None
    """None: the system's."""


class Child:
    """One child process. For one event loop, and one call at a time.

    Args:
        settings: of the run.
        network: whether it keeps the network.
    """

    _numbers = itertools.count(1)

    def __init__(self, settings: ChildSettings, *, network: bool) -> None:
        self.network = network
        self.traits: tuple[Traits, ...] = ()
        """Of each reward; known once it has started."""
        self.sandbox: Sandbox | None = None
        """What its questions go to."""
        self._settings = settings
        self._read_usage = settings.read_usage or system_usage()
        self._name = f"reward child {next(self._numbers)}"
        self._calls = 0
        self._batch = -1
        self._answering: dict[int, asyncio.Task[None]] = {}
        self._meter: Meter | None = None
        self._fault: Exception | None = None
        self._binding = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._ending: asyncio.Task[int] | None = None

    async def start(self) -> None:
        """Start the process; returns when it has bound the rewards.

        Raises:
            ConfigError: they cannot be bound, or not in time.
            RewardError: the process ended without a word: no bad input, a kernel that is out of
                memory does that, too.
            SandboxUnavailable: the network cannot be taken from it.
        """
        self._spawn()
        try:
            self._reader, self._writer = await asyncio.open_unix_connection(sock=self._socket)
            async with asyncio.timeout(START_SECONDS):
                self.traits = await self._hear_traits()
        except TimeoutError:
            await self._end()
            slow = f"was not ready after {START_SECONDS:g} s"
            raise ConfigError(self._did_not_start(slow)) from None
        except (EOFError, Garbage, ValidationError):
            raise RewardError(self._did_not_start(describe_exit(await self._end()))) from None
        except BaseException:
            await self._end()
            raise

    async def call(
        self, reward: int, batch: int, tasks: Sequence[ScoreTask], timeout_seconds: float
    ) -> list[Outcome]:
        """Outcomes of one reward for all tasks of a batch.

        Args:
            reward: its index.
            batch: number of the batch; the tasks are sent once for all its calls.
            tasks: those of the batch.
            timeout_seconds: CPU seconds that the whole call may take, and idle seconds.

        Raises:
            ChildLost: the process died, broke the protocol or was killed at a limit.
        """
        assert self._process is not None
        self._calls += 1
        known, self._batch = self._batch == batch, batch
        sent = None if known else [task.model_dump() for task in tasks]
        limits = Limits(
            cpu_seconds=timeout_seconds,
            idle_seconds=timeout_seconds,
            wall_seconds=BACKSTOP * timeout_seconds,
            memory_bytes=self._settings.memory_bytes,
            max_threads=sys.maxsize,
        )
        first = self._read_usage(self._process.pid) or NO_USAGE
        self._meter = Meter(limits, first, time.monotonic())
        self._meter.resume(time.monotonic())
        self._send({"call": self._calls, "reward": reward, "batch": batch, "tasks": sent})
        hearing = asyncio.ensure_future(self._hear(len(tasks)))
        hearing.add_done_callback(lambda done: done.cancelled() or done.exception())  # it is seen
        try:
            return await self._watch(hearing)
        finally:
            hearing.cancel()
            for task in self._answering.values():
                task.cancel()

    async def close(self) -> None:
        """Kill the process and all of its group, and wait for its end."""
        if self._process is not None:
            await self._end()

    # Its process.

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        self._lifeline, lifeline = socket.socketpair()
        stdout, write_end = os.pipe()
        with theirs, lifeline:
            numbers = (theirs.fileno(), lifeline.fileno())
            command = [
                sys.executable,
                "-u",
                "-m",
                "reward_workers.children.inside",
                *map(str, numbers),
            ]
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own module
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=write_end,
                    stderr=subprocess.STDOUT,
                    pass_fds=numbers,
                    start_new_session=True,
                )
            finally:
                os.close(write_end)
        os.set_blocking(stdout, False)
        ours.setblocking(False)
        self._socket = ours
        self._output = OutputLog(stdout, self._name)

    async def _end(self) -> int:
        """Kill it if it lives; returns how it ended: of itself, if it did."""
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._kill_and_wait())
        return await asyncio.shield(self._ending)

    async def _kill_and_wait(self) -> int:
        assert self._process is not None
        for task in self._answering.values():
            task.cancel()
        # A process that hung up because it ended keeps its own exit code.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        code = await asyncio.to_thread(self._process.wait)
        self._output.close()
        self._lifeline.close()
        if self._writer is None:
            self._socket.close()
        else:
            self._writer.close()
            with contextlib.suppress(OSError):
                await self._writer.wait_closed()
        return code

    async def _hear_traits(self) -> tuple[Traits, ...]:
        configs = [config.model_dump_json() for config in self._settings.rewards]
        settings = self._settings
        self._send(
            {
                "rewards": configs,
                "network": self.network,
                "network_anyway": settings.network_anyway,
                "thinking": list(settings.thinking),
            }
        )
        while "bound" not in (said := await receive(self._reader)):
            if "failed" in said:
                refused = SandboxUnavailable if said["failed"] == REFUSED_SANDBOX else ConfigError
                raise refused(str(said.get("why")))
            self._binding = _INDEX.validate_python(said.get("binding"))
        traits = tuple(Traits(*pair) for pair in _BOUND.validate_python(said["bound"]))
        if len(traits) != len(self._settings.rewards):
            raise Garbage("not every reward was bound")
        return traits

    def _did_not_start(self, happened: str) -> str:
        where = "a reward worker's child"
        if 0 <= self._binding < len(self._settings.rewards):
            name = self._settings.rewards[self._binding].name
            where = f"reward {name!r} cannot be loaded: its process"
        said = f" ({self._output.last_line})" if self._output.last_line else ""
        return f"{where} {happened}{said}"

    # A call.

    async def _watch(self, hearing: asyncio.Future[list[Outcome]]) -> list[Outcome]:
        assert self._meter is not None
        assert self._process is not None
        while True:
            done, _ = await asyncio.wait({hearing}, timeout=WATCH_SECONDS)
            if done:
                break
            usage = self._read_usage(self._process.pid)
            if self._fault is not None:
                raise self._fault
            stopped = self._meter.sample(usage, time.monotonic())
            if stopped:
                await self._end()
                raise _breach(stopped)
            if usage is None:  # it may have left its channel open with another process
                raise ChildLost(CRASHED, f"its process {describe_exit(await self._end())}")
        try:
            return hearing.result()
        except (EOFError, Garbage) as error:
            code = await self._end()
            said = f", which said {error}" if isinstance(error, Garbage) else ""
            raise ChildLost(CRASHED, f"its process {describe_exit(code)}{said}") from None

    async def _hear(self, num_tasks: int) -> list[Outcome]:
        while "said" not in (said := await receive(self._reader)):
            self._take_question(said)
        found = said.get("outcomes")  # its length first: each bad one costs memory to report
        if said["said"] != self._calls or not isinstance(found, list) or len(found) != num_tasks:
            raise Garbage("the outcomes of another call")
        try:
            return _OUTCOMES.validate_python(found)
        except ValidationError:
            raise Garbage("what is no outcome") from None

    def _take_question(self, said: Said) -> None:
        number = said.get("ask")
        if not isinstance(number, int) or number in self._answering or self.sandbox is None:
            raise Garbage("what nobody asked for")
        assert self._meter is not None
        self._meter.pause()
        self._answering[number] = asyncio.create_task(self._answer(number, self.sandbox, said))

    async def _answer(self, number: int, sandbox: Sandbox, said: Said) -> None:
        try:
            self._send({"answer": number, **await answer(sandbox, said)})
        except Exception as error:  # noqa: BLE001 - our bug: `_watch` raises it
            self._fault = error
        finally:
            del self._answering[number]
            if not self._answering and self._meter is not None:
                self._meter.resume(time.monotonic())

    def _send(self, message: Said) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(pack(message))


def _breach(stopped: Stopped) -> ChildLost:
    status = MEMORY if stopped.verdict is Verdict.OOM else TIMEOUT
    return ChildLost(status, stopped.detail)
