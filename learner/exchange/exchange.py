"""The exchange thread: the ledger, all sockets, peers and their health. Never computes with mlx.

The training thread calls `next_batch`, `trained`, `skip` and `evaluate`, and waits on a future;
another one calls `publish` when it has made the bytes of a version. The exchange thread alone
touches the ledger and the sockets.
"""

import contextlib
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from types import MappingProxyType

from learner.exchange.awake import AwakeClock
from learner.exchange.commands import Commands
from learner.exchange.counting import all_counts, idle_shares
from learner.exchange.drops import Drops
from learner.exchange.idleness import Idleness
from learner.exchange.inbound import Inbound
from learner.exchange.outbound import Outbound
from learner.exchange.prompt_book import PromptBook
from learner.exchange.publish import Delta, Publisher
from learner.exchange.roster import Roster
from learner.exchange.showing import Showing
from learner.exchange.view import View
from learner.exchange.watchdog import Watchdog
from learner.ledger import events as ev
from learner.ledger.ledger import Ledger
from learner.ledger.snapshot import Snapshot
from learner.samples import ScoredBatch, ScoredSample, SuiteSamples, scored_samples
from protocol.config import RunConfig
from protocol.errors import RunStopped
from protocol.messages import Goodbye, Welcome
from protocol.metrics import Metrics
from protocol.transport import Channel, LearnerTransport
from protocol.weights import PackedWeights
from protocol.wire import encode_single

log = logging.getLogger("learner.exchange")

TICK_SECONDS = 0.1
GOODBYE_SECONDS = 2.0
SWITCH_SECONDS = 0.0005
"""How long one thread may keep another from Python.

Each call of ZeroMQ lets go of the interpreter, and at Python's own 5 ms a training thread that is
busy in Python meanwhile would keep a turn of a hundred calls for half a second.
"""


class Exchange:
    """Everything between the training thread and the peers.

    Args:
        transport: bound sockets; the exchange owns and closes them.
        ledger: fresh or resumed.
        prompts: what group ids stand for.
        publisher: weights.
        config: the run.
        welcome: the answer to a peer's Hello.
        vocabulary: token ids are below it.
        metrics: counts and gauges.
        fingerprint: what actors must compute with; empty takes any.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        transport: LearnerTransport,
        ledger: Ledger,
        prompts: PromptBook,
        publisher: Publisher,
        config: RunConfig,
        welcome: Welcome,
        vocabulary: int,
        metrics: Metrics,
        fingerprint: Mapping[str, str] = MappingProxyType({}),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._ledger = ledger
        self._prompts = prompts
        self._publisher = publisher
        self._run_id = welcome.run_id
        self._seconds, self._clock = clock, AwakeClock(clock)
        self._ticked_at = -TICK_SECONDS
        self._metrics = metrics
        self._roster = Roster(silence_seconds=10 * config.network.heartbeat_seconds)
        self._drops = Drops(config.learner.groups_per_step)
        self._idleness = Idleness()
        self._watchdog = Watchdog(config.learner.no_progress_seconds, self._clock())
        self._outbound = Outbound(transport, ledger, prompts, config)
        self._inbound = Inbound(
            transport=transport,
            roster=self._roster,
            publisher=publisher,
            apply=self._apply,
            policy_version=lambda: publisher.policy_version,
            welcome=welcome,
            vocabulary=vocabulary,
            metrics=metrics,
            wanted_fingerprint=fingerprint,
            clock=self._clock,
        )
        self._commands = Commands(transport.wake)
        self._events: deque[ev.Event] = deque()
        self._applying = False
        self._batch: Future[ScoredBatch] | None = None
        self._evaluation: Future[SuiteSamples] | None = None
        self._halted: RunStopped | None = None  # why nothing more is trained or evaluated
        self.actor_hosts: frozenset[str] = frozenset()
        """Where actors are registered, as of the last tick."""
        self._showing = Showing(self._roster, metrics)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="exchange", daemon=True)

    # For the training thread.

    def start(self) -> None:
        """Begin to serve peers."""
        sys.setswitchinterval(SWITCH_SECONDS)
        self._thread.start()

    def next_batch(self) -> ScoredBatch:
        """Wait for the next training batch; one without samples is the end of the data.

        Raises:
            RunStopped: nothing came for too long, or the exchange failed.
        """
        future: Future[ScoredBatch] = Future()

        def want() -> None:
            self._batch = future
            self._begin_to_wait(ev.BatchWanted())

        return self._commands.ask(want, future)

    def evaluate(self) -> SuiteSamples:
        """Complete and score every held-out prompt of every suite at the current version.

        Raises:
            RunStopped: as for `next_batch`.
        """
        future: Future[SuiteSamples] = Future()

        def begin() -> None:
            self._evaluation = future
            self._metrics.set("mlxrl_evaluating", 1)
            self._begin_to_wait(ev.EvaluationStarted(*self._prompts.evaluation.draw()))

        return self._commands.ask(begin, future)

    def trained(self) -> None:
        """Note that the batch in hand was trained on: the version is one more, `publish` follows.

        Raises:
            RunStopped: the exchange failed.
        """
        self._commands.put(lambda: self._end_step(ev.BatchTrained()))

    def skip(self, reason: str) -> None:
        """Give the batch in hand up."""
        self._commands.put(lambda: self._end_step(ev.BatchSkipped(reason)))

    def publish(
        self, policy_version: int, packed: PackedWeights, delta: Delta | None = None
    ) -> None:
        """Let actors have a version, and tell them; any thread, in the order of the versions.

        Raises:
            RunStopped: the exchange failed.
        """

        def publish() -> None:
            self._publisher.add(policy_version, packed, delta)
            self._transport.publish(encode_single(self._publisher.notice(self._run_id)))
            self._progress()
            self._metrics.set("mlxrl_policy_version", policy_version)

        self._commands.put(publish)

    def halt(self, reason: str) -> None:
        """Let nothing more be trained or evaluated, for this reason; any thread.

        Raises:
            RunStopped: the exchange failed.
        """
        self._commands.put(lambda: self._halt(reason))

    def counts(self) -> dict[str, float]:
        """Groups by state, what happened so far, and by role `peers/`, `memory/` and `idle/`.

        Memory is the resident set of the role's largest process; idle is the share of its time
        since the last call in which a role had nothing to do, where that is known.
        """
        future: Future[dict[str, float]] = Future()
        return self._commands.ask(lambda: future.set_result(self._counts()), future)

    def last_counts(self) -> dict[str, float]:
        """The counts at the end of the run; Prometheus is shown these, and nothing later."""
        future: Future[dict[str, float]] = Future()

        def end() -> None:
            self._showing.show(self._ledger.counts(), self._clock(), is_last=True)
            future.set_result(self._counts())

        return self._commands.ask(end, future)

    def close(self, reason: str) -> None:
        """Tell every peer that the run is over, wait a moment for them to go, and end."""
        with contextlib.suppress(RunStopped):  # it failed: there is nobody to say it
            self._commands.put(lambda: self._say_goodbye(reason))
        deadline = self._seconds() + GOODBYE_SECONDS
        while self._thread.is_alive() and self._seconds() < deadline:
            if self.counts_of_peers() == 0:
                break
            self._thread.join(0.05)
        self._closing.set()
        self._transport.wake()
        self._thread.join(2.0)

    @property
    def view(self) -> View:
        """How things are, as of the last second; any thread may ask."""
        return self._showing.view

    def counts_of_peers(self) -> int:
        """Registered peers."""
        return len(self._roster)

    # The exchange thread.

    def _run(self) -> None:
        ended = RunStopped("the exchange is closed")
        try:
            while not self._closing.is_set():
                self._turn()
        except Exception as error:
            log.exception("the exchange failed")
            ended = RunStopped(f"the exchange failed: {type(error).__name__}: {error}")
        finally:
            self._commands.end(ended)
            self._transport.close()

    def _turn(self) -> None:
        """Take everything that came, apply it, and answer all of it together."""
        lost = self._transport.lost()
        arrivals = self._transport.receive(TICK_SECONDS, gather=not self._is_waited_for)
        now = self._clock.look()
        for connection in lost:
            self._roster.disconnected(connection, now)
        for arrival in arrivals:
            self._inbound.take(arrival)
        self._commands.carry_out()
        if now - self._ticked_at >= TICK_SECONDS:
            self._ticked_at = now
            self._tick(now)
        self._outbound.flush()

    @property
    def _is_waited_for(self) -> bool:
        """Training stands still until there is a batch, or an evaluation."""
        return self._batch is not None or self._evaluation is not None

    def _tick(self, now: float) -> None:
        lost = [] if self._clock.has_just_woken else self._roster.remove_lost(now)
        for member, reason in lost:
            log.warning("lost %s: %s", member.name, reason)
            self._showing.lost(member, now)
            self._apply(ev.PeerLost(member.name))
        self._apply(ev.Ticked())
        self.actor_hosts = self._roster.hosts("actor")
        if lost or self._showing.is_due(now):
            self._showing.show(self._ledger.counts(), now)
        self._watchdog.check_step(now)
        if not self._is_waited_for:
            self._watchdog.progress(now)
        elif reason := self._watchdog.check(now, self._roster, self._ledger.counts()):
            self._give_up(RunStopped(reason))

    def _begin_to_wait(self, event: ev.Event) -> None:
        self._watchdog.progress(self._clock())
        self._apply(event)
        if self._halted is not None:
            self._give_up(self._halted)

    def _end_step(self, event: ev.Event) -> None:
        self._watchdog.step_ends()
        self._apply(event)

    def _apply(self, event: ev.Event) -> None:
        """Give the ledger an event, and those that its own actions lead to."""
        self._events.append(event)
        if self._applying:
            return
        self._applying = True
        while self._events:
            actions = self._ledger.apply(self._events.popleft(), self._clock())
            self._outbound.take(actions)
            for action in actions:
                self._carry_out(action)
        self._applying = False

    def _carry_out(self, action: ev.Action) -> None:
        match action:
            case ev.NeedPrompts():
                self._events.append(self._prompts.draw(action.count, self._ledger.retired_rows))
            case ev.HandOver():
                self._hand_over(action.group_ids, action.snapshot)
            case ev.EvaluationFinished():
                self._finish_evaluation(action)
            case ev.AckRollout() if action.accepted:
                self._progress()
            case ev.AckScore():
                self._progress()
            case ev.GroupDropped():
                self._drops.note(action)
            case ev.Halt():
                self._halt(action.reason)
            case ev.AttemptDiscarded():
                self._drops.note_attempt(action, quiet=self._inbound.over is not None)
            case _:
                pass

    def _hand_over(self, group_ids: Sequence[int], snapshot: Snapshot) -> None:
        if self._batch is None:
            return  # it came after the watchdog gave up
        self._drops.hand_over()
        self._watchdog.step_begins(self._clock())
        future, self._batch = self._batch, None
        future.set_result(ScoredBatch(self._samples(group_ids), snapshot))

    def _finish_evaluation(self, finished: ev.EvaluationFinished) -> None:
        if self._evaluation is None:
            return  # it came after the watchdog gave up
        future, self._evaluation = self._evaluation, None
        self._metrics.set("mlxrl_evaluating", 0)
        book = self._prompts.evaluation
        by_suite: list[list[int]] = [[] for _ in book.suites]
        for group_id in finished.group_ids:
            by_suite[book.index(group_id)].append(group_id)
        future.set_result(tuple(self._samples(group_ids) for group_ids in by_suite))

    def _samples(self, group_ids: Sequence[int]) -> tuple[ScoredSample, ...]:
        scored: list[ScoredSample] = []
        for group_id in group_ids:
            group = self._ledger.group(group_id)
            assert group is not None
            scored += scored_samples(group, self._prompts.entry(group_id))
        return tuple(scored)

    def _progress(self) -> None:
        self._watchdog.progress(self._clock())
        self._showing.worked()

    def _counts(self) -> dict[str, float]:
        shares = idle_shares(self._roster, self._idleness)
        return {**all_counts(self._ledger.counts(), self._roster), **shares}

    def _say_goodbye(self, reason: str) -> None:
        self._outbound.flush()
        goodbye = Goodbye(reason=reason)
        self._inbound.over = goodbye
        self._roster.each(lambda m: self._outbound.send(Channel.CONTROL, m.name, goodbye))

    def _halt(self, reason: str) -> None:
        self._halted = RunStopped(reason)
        self._give_up(self._halted)

    def _give_up(self, reason: RunStopped) -> None:
        for future in (self._batch, self._evaluation):
            if future is not None:
                future.set_exception(reason)
        self._batch = self._evaluation = None
