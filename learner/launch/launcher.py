"""The Procfile's roles as honcho's processes, with restarts, reasons and an end within 5 seconds.

honcho ends its group at the first exit. Here the learner's end ends the run with the learner's
code, a crashed actor or reward worker is started again, and bad input (code 2) ends the run.
honcho's wrapper processes die with mlx-train, so that even its `kill -9` leaves nothing behind.
"""

import contextlib
import multiprocessing
import os
import queue
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from types import FrameType

from honcho.environ import expand_processes, parse_procfile
from honcho.manager import Manager
from honcho.printer import Message

from learner.launch.display import Display
from learner.launch.role_line import read_line
from learner.launch.role_process import RoleProcess
from protocol.errors import ConfigError
from protocol.process import ERROR_PREFIX, EXIT_DONE
from protocol.supervise import Decision, RestartPolicy, describe_exit, exit_status

LEARNER = "learner"

GOODBYE_SECONDS = 2.0
"""After the learner's clean end, the others leave by themselves for so long; then SIGTERM."""
KILL_SECONDS = 4.0
"""From the beginning of the end to SIGKILL."""
MAX_UNHEARD_SIGNALS = 2
"""One signal more ends mlx-train from within the handler: honcho's queue can block the loop when a
wrapper is killed while it writes."""
INTERRUPT_KILL_SECONDS = 4.5
"""From Ctrl-C to SIGKILL: the learner may be writing a checkpoint."""
_ABANDON_SECONDS = 0.4
_RETURN_SECONDS = 5.0
"""A role that left in mid-run is started again after so long; at the end of a run it is not."""

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class _Member:
    """What honcho does not remember of a process."""

    policy: RestartPolicy
    started_at: float = 0.0
    restart_at: float | None = None
    reason: str = ""
    """The last `error: ...` line of its current life."""
    wrapper_gone: bool = False
    """Its wrapper was found dead; the wrapper's last words may still be in the queue."""


@dataclass
class _Ending:
    """When those who are left get which signal."""

    terminate_at: float
    kill_at: float


class Launcher(Manager):
    """honcho's manager with another rule of who ends what.

    After `loop`, `returncode` is mlx-train's exit code and `reason` says why it is not 0.

    Args:
        display: prints lines (honcho's printer) and is ticked in the loop.
        context: how wrapper processes start; fork on Linux (nothing here has threads or has
            computed with mlx), spawn elsewhere.
        policy: makes the restart policy of one process.
    """

    returncode: int | None

    def __init__(
        self,
        display: Display,
        context: BaseContext | None = None,
        policy: Callable[[], RestartPolicy] = RestartPolicy,
    ) -> None:
        super().__init__(display)
        method = "fork" if sys.platform == "linux" else "spawn"
        self._context = context or multiprocessing.get_context(method)
        self.events = self._context.Queue()
        self.reason = ""
        self._display = display
        self._policy = policy
        self._process_ctor = RoleProcess
        self._members: dict[str, _Member] = {}
        self._ending: _Ending | None = None
        self._signals: list[int] = []
        self._pid = os.getpid()

    def add_roles(
        self, procfile: str, concurrency: Mapping[str, int], environment: Mapping[str, str]
    ) -> None:
        """Add the Procfile's processes, as many of each role as `concurrency` says.

        Raises:
            ConfigError: the Procfile has no learner.
        """
        try:
            roles = parse_procfile(procfile).processes
        except AssertionError as error:  # how honcho says it
            raise ConfigError(f"the Procfile cannot be used: {error}") from None
        if LEARNER not in roles:
            raise ConfigError(f"the Procfile has no line `{LEARNER}: ...`, only {', '.join(roles)}")
        for process in expand_processes(roles, concurrency=dict(concurrency)):
            self.add_process(process.name, process.cmd, env={**environment, **process.env})

    def loop(self) -> None:
        """Run everything until all processes have ended."""
        before = {number: signal.signal(number, self._on_signal) for number in _STOP_SIGNALS}
        try:
            self._start()
            while not self._all_over():
                self._take_event()
                self._obey_signals()
                self._restart_due()
                self._press()
                self._display.tick()
        finally:
            self.kill()
            self._abandon()
            for number, handler in before.items():
                signal.signal(number, handler)

    # --- starting ---------------------------------------------------------------------------

    def _start(self) -> None:
        for name in self._processes:
            self._members[name] = _Member(self._policy())
            self._start_one(name)

    def _start_one(self, name: str) -> None:
        record, member = self._processes[name], self._members[name]
        if "process" in record:
            record["process"].join()
        record.pop("pid", None)
        record.pop("returncode", None)
        member.restart_at, member.reason, member.wrapper_gone = None, "", False
        member.started_at = time.monotonic()
        record["process"] = self._context.Process(  # type: ignore[attr-defined]
            name=name, target=record["obj"].run, args=(self.events, True)
        )
        record["process"].start()

    def _restart_due(self) -> None:
        for name, member in self._members.items():
            if member.restart_at is not None and time.monotonic() >= member.restart_at:
                self._start_one(name)

    # --- what processes say -----------------------------------------------------------------

    def _take_event(self) -> None:
        try:
            event = self.events.get(timeout=0.1)
        except queue.Empty:
            self._find_lost_wrappers()
            return
        if event.type == "line":
            self._take_line(event)
        elif event.type == "start":
            self._processes[event.name]["pid"] = event.data["pid"]
            if self._terminating:  # it started after the signals had been sent
                _ask_to_end(event.data["pid"])
        elif event.type == "stop":
            self._take_stop(event.name, event.data["returncode"])

    def _take_line(self, event: Message) -> None:
        line = read_line(event).text.rstrip()
        if line.startswith(ERROR_PREFIX):
            self._members[event.name].reason = line.removeprefix(ERROR_PREFIX)
        self._printer.write(event)

    def _take_stop(self, name: str, code: int) -> None:
        self._processes[name]["returncode"] = code
        member = self._members[name]
        if self._ending is not None:
            self._system_print(f"{name} {describe_exit(code)}\n")
            return
        if _role(name) == LEARNER:
            self._take_learners_end(code, member.reason)
            return
        decision = member.policy.decide(code, member.started_at, time.monotonic())
        if code == EXIT_DONE:  # the run may be ending, and the learner about to say so
            decision = Decision(_RETURN_SECONDS, describe_exit(code))
        self._system_print(f"{name} {decision.sentence}\n")
        if decision.restart_seconds is not None:
            member.restart_at = time.monotonic() + decision.restart_seconds
        elif code:
            self._end(exit_status(code), _because(name, decision, member.reason))

    def _take_learners_end(self, code: int, reason: str) -> None:
        what = f"the learner {describe_exit(code)}"
        self._system_print(what + "\n")
        if code:
            self._end(exit_status(code), f"{what}: {reason}" if reason else what)
        else:
            self._end(code, "", patience_seconds=GOODBYE_SECONDS)

    def _find_lost_wrappers(self) -> None:
        """Treat a role whose wrapper was killed as killed."""
        for name, record in self._processes.items():
            process = record.get("process")
            if process is None or process.exitcode is None or "returncode" in record:
                continue
            if not self._members[name].wrapper_gone:
                self._members[name].wrapper_gone = True
                continue
            if "pid" in record:
                self._procmgr.kill(record["pid"])
            self._take_stop(name, -signal.SIGKILL)

    # --- the end ----------------------------------------------------------------------------

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a wrapper that was just forked has this handler, too
            return
        self._signals.append(number)
        if len(self._signals) > MAX_UNHEARD_SIGNALS:  # the loop is stuck, and so is all else
            self.kill()
            self._abandon()
            os._exit(128 + number)

    def _obey_signals(self) -> None:
        while self._signals:
            number = self._signals.pop(0)
            name = signal.Signals(number).name
            if self._ending is None:
                self._system_print(f"{name} received; ending the run (once more: kill it)\n")
                why = f"interrupted by {name}"
                self._end(128 + number, why, kill_seconds=INTERRUPT_KILL_SECONDS)
            else:
                self._system_print(f"{name} received; killing what is left\n")
                self._ending.kill_at = time.monotonic()

    def _end(
        self,
        code: int,
        reason: str,
        *,
        patience_seconds: float = 0.0,
        kill_seconds: float = KILL_SECONDS,
    ) -> None:
        now = time.monotonic()
        self.returncode, self.reason = code, reason
        self._ending = _Ending(now + patience_seconds, now + kill_seconds)
        for member in self._members.values():
            member.restart_at = None

    def _press(self) -> None:
        if self._ending is None:
            return
        now = time.monotonic()
        if now >= self._ending.terminate_at:
            self.terminate()
        if now >= self._ending.kill_at:
            self.kill()
        if now >= self._ending.kill_at + _ABANDON_SECONDS:
            self._abandon()

    def _killall(self, force: bool = False) -> None:
        for record in self._processes.values():
            if "returncode" not in record and "pid" in record:
                (self._procmgr.kill if force else _ask_to_end)(record["pid"])

    def _abandon(self) -> None:
        """Kill wrappers that have not told the end of a role that was killed."""
        for record in self._processes.values():
            process = record.get("process")
            if process is not None and "returncode" not in record:
                process.kill()
                record["returncode"] = -signal.SIGKILL

    def _all_over(self) -> bool:
        return self._ending is not None and self._all_stopped()


def _role(name: str) -> str:
    return name.rpartition(".")[0]


def _because(name: str, decision: Decision, reason: str) -> str:
    return f"{name} {decision.sentence}" + (f": {reason}" if reason else "")


def _ask_to_end(pid: int) -> None:
    """Send SIGTERM to a role alone: honcho's goes to the compiler that MLX runs as well."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
