"""Restarts of a role that crashed: when (pure), and by a parent process of its own.

Under mlx-train the launcher restarts roles; under `honcho start`, or started alone, each role is a
child of its own supervisor. Both ask RestartPolicy.
"""

import logging
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import NamedTuple

from protocol.process import EXIT_BAD_INPUT, EXIT_DONE, STOP_SIGNALS, die_with_parent, fail

log = logging.getLogger("protocol.supervise")

SUPERVISED = "MLX_RL_SUPERVISED"
"""Environment variable: 1 says that somebody else restarts this process."""

NEVER_RESTARTED = (EXIT_DONE, EXIT_BAD_INPUT)

_HONCHO = "HONCHO_PROCESS_NAME"
_LINGER_SECONDS = 2.0
_KILL_SECONDS = 3.7
"""From a signal to the role's SIGKILL: after its own hard exit, before honcho's SIGKILL at 5 s."""


class Decision(NamedTuple):
    """What to do about a process that ended."""

    restart_seconds: float | None
    """Start it again after so long; None: not at all."""
    sentence: str
    """Why, beginning with what became of the process: `ended with code 1; ...`."""


class RestartPolicy:
    """When one process is started again: exponential backoff, and a cap on crash loops.

    Args:
        first_seconds: wait after the first crash; doubled after each further one.
        max_seconds: the wait is never longer.
        healthy_seconds: a process that lived this long starts over with the first wait.
        short_seconds: a life shorter than this counts towards a crash loop; a longer one ends it.
        max_crashes: so many short lives in a row, and it is given up.
    """

    def __init__(
        self,
        *,
        first_seconds: float = 0.5,
        max_seconds: float = 30.0,
        healthy_seconds: float = 60.0,
        short_seconds: float = 10.0,
        max_crashes: int = 8,
    ) -> None:
        self._first_seconds = first_seconds
        self._max_seconds = max_seconds
        self._healthy_seconds = healthy_seconds
        self._short_seconds = short_seconds
        self._max_crashes = max_crashes
        self._waits = 0
        self._short_lives = 0

    def decide(self, exit_code: int, started_at: float, ended_at: float) -> Decision:
        """Judge an exit; times are monotonic seconds, a negative code is a signal's number."""
        happened = describe_exit(exit_code)
        if exit_code in NEVER_RESTARTED:
            return Decision(None, happened)
        lived_seconds = ended_at - started_at
        self._short_lives = self._short_lives + 1 if lived_seconds < self._short_seconds else 0
        if self._short_lives >= self._max_crashes:
            return Decision(
                None,
                f"{happened}; given up after {self._short_lives} crashes in a row, "
                f"none after more than {self._short_seconds:g} s",
            )
        if lived_seconds >= self._healthy_seconds:
            self._waits = 0
        wait_seconds = min(self._first_seconds * 2.0**self._waits, self._max_seconds)
        self._waits += 1
        return Decision(wait_seconds, f"{happened}; starting it again in {wait_seconds:g} s")


def describe_exit(exit_code: int) -> str:
    """Return `ended with code 1`, or `was killed by SIGKILL` for a negative code."""
    if exit_code >= 0:
        return f"ended with code {exit_code}"
    try:
        return f"was killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was killed by signal {-exit_code}"


def exit_status(exit_code: int) -> int:
    """Return the shell's number for an exit: 128 + signal for a negative code."""
    return 128 - exit_code if exit_code < 0 else exit_code


def supervised(run: Callable[[], int], module: str) -> int:
    """Run a role's main function, restarted when it crashes; returns its last exit code.

    With MLX_RL_SUPERVISED=1 in the environment it is called here, and this process dies with its
    parent. Otherwise `python -m module` with this process's arguments is a child that is restarted
    by RestartPolicy, gets SIGTERM and SIGINT from here, and dies with this process. What does not
    end within 3.7 s of a signal is killed; a second signal kills at once.

    Args:
        run: the role; returns an exit code.
        module: the role's package, `actors`.
    """
    if os.environ.get(SUPERVISED) == "1":
        die_with_parent()
        return run()
    if _HONCHO in os.environ:  # a shell's child may outlive its shell (nohup), honcho's may not
        die_with_parent()
    return _Supervisor([sys.executable, "-m", module, *sys.argv[1:]], module).run()


class _Supervisor:
    """One child at a time, until it ends for good or a signal comes."""

    def __init__(self, command: list[str], name: str) -> None:
        self._command = command
        self._name = name
        self._policy = RestartPolicy()
        self._child: subprocess.Popen[bytes] | None = None
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()  # put() is safe in a handler
        self._told_to_stop = False

    def run(self) -> int:
        handlers = dict.fromkeys(STOP_SIGNALS, self._forward) | {signal.SIGALRM: self._kill}
        before = {number: signal.signal(number, handlers[number]) for number in handlers}
        try:
            return self._loop()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _loop(self) -> int:
        while True:
            started_at = time.monotonic()
            code = self._run_once()
            if self._told_to_stop or code in NEVER_RESTARTED:
                return self._end(code)
            decision = self._policy.decide(code, started_at, time.monotonic())
            if decision.restart_seconds is None:
                return fail(f"{self._name} {decision.sentence}", exit_status(code))
            log.warning("%s %s", self._name, decision.sentence)
            stopped_by = self._wait(decision.restart_seconds)
            if stopped_by:
                return 128 + stopped_by

    def _run_once(self) -> int:
        # A process group of its own: the terminal's Ctrl-C and honcho's SIGTERM go to whole groups,
        # and the child would get each twice.
        self._child = subprocess.Popen(  # noqa: S603 - this very program
            self._command,
            env={**os.environ, SUPERVISED: "1"},
            process_group=0,
            preexec_fn=die_with_parent if sys.platform == "linux" else None,
        )
        if self._told_to_stop:  # the signal came before there was a child
            self._child.terminate()
        return self._child.wait()

    def _forward(self, number: int, frame: FrameType | None) -> None:
        if self._told_to_stop:
            return self._kill(number, frame)
        self._told_to_stop = True
        self._signals.put(number)
        signal.setitimer(signal.ITIMER_REAL, _KILL_SECONDS)  # no lock, no thread: safe in a handler
        if self._child is not None:
            self._child.send_signal(number)
        return None

    def _kill(self, _number: int, _frame: FrameType | None) -> None:
        if self._child is not None:
            self._child.kill()

    def _wait(self, seconds: float) -> int:
        try:
            return self._signals.get(timeout=seconds)
        except queue.Empty:
            return 0

    def _end(self, code: int) -> int:
        # honcho ends its group at the first exit and takes that one's code: a peer that was told
        # goodbye leaves that to the learner.
        if code == EXIT_DONE and _HONCHO in os.environ and self._name != "learner":
            self._wait(_LINGER_SECONDS)
        return exit_status(code)
