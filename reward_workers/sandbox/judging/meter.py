"""Limits that must be watched from outside: CPU, idle and wall time, memory, threads."""

from reward_workers.sandbox.backend import Usage
from reward_workers.sandbox.jobs import Limits, Verdict
from reward_workers.sandbox.judging.verdicts import Stopped

MAX_IDLE_STEP_SECONDS = 0.5
"""Most idle time that one sample may count: a supervisor that was held up blames nobody."""


class Meter:
    """Watches one worker from its delivery on. Knows no clock: every call says what time it is.

    Idle time is wall time in which a job was outstanding, less CPU time, less time spent waiting
    for a CPU. Each sample counts for itself, so that threads which wait together, or work done
    while nobody asked, buy no idle time. The kernel tells of a wait for a CPU only once it is over:
    what looked idle since the worker last ran is taken back then.

    Args:
        limits: what the worker may use.
        first: what its process had used before it heard anything.
        now: monotonic seconds.
    """

    def __init__(self, limits: Limits, first: Usage, now: float) -> None:
        self._limits = limits
        self._started_at = now
        self._first_cpu_seconds = first.cpu_seconds
        self._last = first
        self._active_since: float | None = None
        self._idle_seconds = 0.0
        self._unsettled_seconds = 0.0

    def resume(self, now: float) -> None:
        """The worker has something to do from now on."""
        if self._active_since is None:
            self._active_since = now

    def pause(self) -> None:
        """The worker has answered.

        Time since the last sample is forgiven: it may be the supervisor's own, who took long to
        read the answer.
        """
        self._active_since = None

    def own_cpu_seconds(self, cpu_seconds: float) -> float:
        """CPU time since the delivery."""
        return max(0.0, cpu_seconds - self._first_cpu_seconds)

    def wall_seconds(self, now: float) -> float:
        """Wall time since the delivery."""
        return now - self._started_at

    def sample(self, usage: Usage | None, now: float) -> Stopped | None:
        """Counts what was used since the last sample; returns the limit that was exceeded.

        Args:
            usage: None when the process has ended.
            now: monotonic seconds.
        """
        limits = self._limits
        if usage is not None:
            self._count_idle(usage, now)
            if self.own_cpu_seconds(usage.cpu_seconds) > limits.cpu_seconds:
                return over_cpu(limits)
            if usage.resident_bytes > limits.memory_bytes:
                return over_memory(limits)
            if usage.num_threads > limits.max_threads:
                return Stopped(Verdict.FAILED, f"more than {limits.max_threads} threads")
        if self._idle_seconds > limits.idle_seconds:
            return Stopped(Verdict.TIMEOUT, f"idle for more than {limits.idle_seconds:g} s")
        if self.wall_seconds(now) > limits.wall_seconds:
            return Stopped(Verdict.TIMEOUT, f"not done after {limits.wall_seconds:g} s")
        return None

    def _count_idle(self, usage: Usage, now: float) -> None:
        active_seconds = 0.0
        if self._active_since is not None:
            active_seconds, self._active_since = now - self._active_since, now
        busy_seconds = (
            usage.cpu_seconds
            - self._last.cpu_seconds
            + usage.waiting_seconds
            - self._last.waiting_seconds
        )
        idle_seconds = active_seconds - max(0.0, busy_seconds)
        if idle_seconds >= 0:
            step = min(idle_seconds, MAX_IDLE_STEP_SECONDS)
            self._idle_seconds += step
            self._unsettled_seconds = step + (0.0 if busy_seconds > 0 else self._unsettled_seconds)
        else:  # it had waited for a CPU, and has run since
            self._idle_seconds -= min(self._unsettled_seconds, -idle_seconds)
            self._unsettled_seconds = 0.0
        self._last = usage


def over_cpu(limits: Limits) -> Stopped:
    """The end of a worker that used too much CPU."""
    return Stopped(Verdict.TIMEOUT, f"more than {limits.cpu_seconds:g} s of CPU")


def over_memory(limits: Limits) -> Stopped:
    """The end of a worker that used too much memory."""
    return Stopped(Verdict.OOM, f"more than {limits.memory_bytes >> 20} MiB of memory")
