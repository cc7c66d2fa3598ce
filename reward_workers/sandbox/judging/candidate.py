"""The supervisor's side of one worker, from the delivery of its one job to its end.

Whatever a worker does after the delivery ends in a verdict, by a `Stopped`; only a worker that was
lost before it heard anything is a `SandboxFault`.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from typing import Any

from reward_workers.sandbox.backend import Ended, SandboxFault, Spawned, Usage
from reward_workers.sandbox.jobs import Limits, Verdict
from reward_workers.sandbox.judging.channel import Channel
from reward_workers.sandbox.judging.meter import Meter, over_cpu, over_memory
from reward_workers.sandbox.judging.outputs import Outputs
from reward_workers.sandbox.judging.verdicts import Spent, Stopped

log = logging.getLogger("reward_workers")

SAMPLE_SECONDS = 0.05
HANG_UP_SECONDS = 1.0
"""Time for a process that has closed its channel to end by itself, so that we learn how."""
REAP_SECONDS = 5.0
"""Longest time that a killed process takes to end."""
CPU_SLACK_SECONDS = 0.1
"""The kernel's limit and the kernel's report of CPU time differ by this much at most."""


class Candidate:
    """One worker: alive and waiting at first, then given its one job, then ended.

    Args:
        spawned: the worker, which this object owns from now on.
        limits: what it may use.
        read_usage: `Backend.read_usage`.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        spawned: Spawned,
        limits: Limits,
        read_usage: Callable[[int], Usage | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._spawned = spawned
        self._limits = limits
        self._read_usage = read_usage
        self._clock = clock
        self._channel = Channel(spawned.channel, self._stop, self._wake)
        self._outputs = Outputs(spawned.stdout, spawned.stderr, limits.output_bytes, self._stop)
        self._meter: Meter | None = None
        self._next_sample: asyncio.TimerHandle | None = None
        self._next_kill: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._stopped: Stopped | None = None
        self._end: Ended | None = None
        self._wall_seconds: float | None = None
        self._ended = asyncio.ensure_future(spawned.ended)
        self._ended.add_done_callback(self._on_ended)

    @property
    def has_ended(self) -> bool:
        """Whether its process is no more."""
        return self._end is not None

    @property
    def stdout(self) -> bytes:
        """What it has printed."""
        return bytes(self._outputs.stdout)

    @property
    def last_words(self) -> str:
        """The last line that it has printed on stderr."""
        lines = bytes(self._outputs.stderr[-1024:]).decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "")

    def deliver(self, job: dict[str, Any]) -> None:
        """Gives the worker its one job.

        Raises:
            SandboxFault: it was lost before it heard anything.
        """
        usage = None if self.has_ended else self._read_usage(self._spawned.pid)
        if usage is None:
            raise SandboxFault("a worker ended before it was given its job")
        self._meter = Meter(self._limits, usage, self._clock())
        self._channel.read()
        if self._stopped or self._channel.hung_up:
            raise SandboxFault("a worker spoke or hung up before it was given its job")
        self._channel.open()
        self._outputs.open()
        self._channel.say(job)
        self._next_sample = self._loop.call_later(SAMPLE_SECONDS, self._sample)

    def say(self, message: dict[str, Any]) -> None:
        """Sends the worker its next message; `hear` then waits for the answer."""
        self._channel.say(message)

    async def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Sends a message and waits for its answer.

        Raises:
            Stopped: the run is over.
        """
        self._channel.say(message)
        return await self.hear()

    async def hear(self) -> dict[str, Any]:
        """Waits for the worker's next message.

        Raises:
            Stopped: the run is over.
        """
        while True:
            if self._stopped:
                raise self._stopped
            message = self._channel.take()
            if message is not None:
                return self._after_output(message)
            if self._end is not None:
                raise self.why_ended(self._end)
            if self._channel.hung_up and self._next_kill is None:
                self._next_kill = self._loop.call_later(HANG_UP_SECONDS, self.kill)
            await self._change()

    async def hear_end(self) -> tuple[dict[str, Any] | None, Ended]:
        """Waits for the process's end; returns its one message, if there was one, and the end.

        Raises:
            Stopped: the run is over.
        """
        while self._end is None and self._stopped is None:
            await self._change()
        if self._stopped:
            raise self._stopped
        assert self._end is not None
        return self._channel.take(), self._end

    def kill(self) -> None:
        """Ends the worker; its pipes are closed once it has gone."""
        self._stop_clock()
        if self._end is None:
            self._spawned.kill()

    async def close(self) -> None:
        """Ends the worker and waits until it has gone and its last output was read."""
        self.kill()
        await asyncio.wait([self._ended], timeout=REAP_SECONDS)
        if self._ended.done():
            self._on_ended(self._ended)
        if self._end is None:
            log.error("worker %d did not end when it was killed", self._spawned.pid)
            self._on_ended(None)

    def spent(self) -> Spent:
        """What the worker has used; to be asked when it is closed."""
        wall_seconds = self._wall_seconds or 0.0
        if self._end is None or self._meter is None:
            return Spent(0.0, wall_seconds, 0)
        cpu_seconds = self._meter.own_cpu_seconds(self._end.cpu_seconds)
        return Spent(cpu_seconds, wall_seconds, self._end.peak_bytes)

    def overrun(self) -> Stopped | None:
        """A limit that was exceeded, whether or not anybody saw it while the worker lived."""
        if self._stopped is not None:
            return self._stopped
        spent = self.spent()
        if spent.cpu_seconds > self._limits.cpu_seconds:
            return over_cpu(self._limits)
        return over_memory(self._limits) if spent.peak_bytes > self._limits.memory_bytes else None

    def why_ended(self, end: Ended) -> Stopped:
        """What the end of its process means, where it should not have ended."""
        limits = self._limits
        if end.signal is None:
            return Stopped(Verdict.CRASHED, f"its process ended with exit code {end.exit_code}")
        killed = end.signal in (signal.SIGKILL, signal.SIGXCPU)
        if killed and end.cpu_seconds > limits.cpu_seconds - CPU_SLACK_SECONDS:
            return over_cpu(limits)
        if killed and end.peak_bytes > limits.memory_bytes:
            return over_memory(limits)
        return Stopped(Verdict.CRASHED, f"its process was ended by signal {end.signal}")

    def _after_output(self, message: dict[str, Any]) -> dict[str, Any]:
        """The message, once all that was printed before it was counted.

        Which case it was that printed too much must not depend on timing.
        """
        self._outputs.read()
        if self._stopped:
            raise self._stopped
        return message

    async def _change(self) -> None:
        """Waits for whatever happens next; only this time can count as idle."""
        assert self._meter is not None
        self._meter.resume(self._clock())
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._meter.pause()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _stop(self, stopped: Stopped) -> None:
        if self._stopped is None:
            self._stopped = stopped
        self.kill()
        self._wake()

    def _stop_clock(self) -> None:
        if self._meter is not None and self._wall_seconds is None:
            self._wall_seconds = self._meter.wall_seconds(self._clock())

    def _sample(self) -> None:
        assert self._meter is not None
        self._next_sample = self._loop.call_later(SAMPLE_SECONDS, self._sample)
        self._channel.read()  # an answer that has come, or is coming, is no idleness
        if self._stopped is not None or self._end is not None:
            return
        if self._channel.has_moved() or self._channel.has_message:
            self._meter.pause()
            if self._waiter is not None and not self._channel.has_message:
                self._meter.resume(self._clock())
        try:
            usage = self._read_usage(self._spawned.pid)
        except Exception:
            log.exception("the use of a worker could not be read")
            self._stop(Stopped(Verdict.FAILED, "what it used could not be read"))
            return
        if stopped := self._meter.sample(usage, self._clock()):
            self._stop(stopped)

    def _on_ended(self, ended: "asyncio.Future[Ended] | None") -> None:
        """Reads what the worker has left behind, and closes everything."""
        if self._end is not None:
            return
        self._stop_clock()
        self._end = _end_of(ended)
        for timer in (self._next_sample, self._next_kill):
            if timer is not None:
                timer.cancel()
        if self._meter is not None:
            self._channel.read()
        self._channel.close()
        self._spawned.channel.close()
        self._outputs.close()
        self._wake()


def _end_of(ended: "asyncio.Future[Ended] | None") -> Ended:
    if ended is not None and not ended.cancelled() and ended.exception() is None:
        return ended.result()
    return Ended(None, None, 0.0, 0)
