"""The reward worker's process: the link, signals, logs and the end."""

import logging
import os
import platform
import secrets
import signal
from pathlib import Path

from protocol.errors import TrainerError
from protocol.messages import Hello, Welcome
from protocol.own_metrics import own_metrics
from protocol.peer import PeerLink
from protocol.process import EXIT_DONE, EXIT_FAILED, arm_hard_exit, fail, this_host
from protocol.telemetry import log_to_file
from protocol.transport import PeerSockets
from reward_workers.backlog import Backlog, key_of
from reward_workers.failures import Failures
from reward_workers.scoring_thread import ScoringThread
from reward_workers.worker import Worker

log = logging.getLogger("reward_workers")

STOP_SECONDS = 0.9
"""From the signal to the end of the process, whatever the reward functions are doing."""


def serve(address: str, slots: int, metrics_address: str | None = None) -> int:
    """Takes part in the run of the learner at `address`; returns the exit code.

    Args:
        address: tcp://host:port.
        slots: samples to hold at once.
        metrics_address: where to serve /metrics; None: nowhere.

    Raises:
        ConfigError, UnknownPluginError: bad address, or rewards that cannot be used here.
    """
    hello = _hello()
    link = PeerLink(hello, PeerSockets(address, hello.peer), address)
    with own_metrics(metrics_address, hello.role, link.heartbeat):
        _leave_on_signals(link)
        return _work(link, slots)


def _work(link: PeerLink, slots: int) -> int:
    link.start()
    backlog, failures = Backlog(), Failures()
    scoring = ScoringThread(backlog, lambda score: link.keep(key_of(score), score), failures)
    try:
        ended = Worker(link, slots, backlog, scoring, _log_into_run).run()
    except SystemExit:
        arm_hard_exit(STOP_SECONDS, EXIT_DONE)
        raise
    except TrainerError as error:
        link.leave(EXIT_FAILED, str(error))
        raise
    finally:
        link.close(link.ended.reason if link.ended else "the reward worker failed")
        scoring.close()
    return fail(ended.reason, ended.exit_code) if ended.exit_code else EXIT_DONE


def _hello() -> Hello:
    host, pid = this_host(), os.getpid()
    return Hello(
        role="reward_worker",
        peer=f"reward_worker-{host}-{pid}-{secrets.token_hex(2)}",
        host=host,
        pid=pid,
        run_id=os.environ.get("RUN_ID", ""),
        fingerprint={"platform": platform.platform(), "python": platform.python_version()},
    )


def _leave_on_signals(link: PeerLink) -> None:
    def on_signal(number: int, _frame: object) -> None:
        link.leave(EXIT_DONE, f"stopped by {signal.Signals(number).name}")
        # Raise: a wait in SimpleQueue.get that a handler outlasts never ends (Python 3.11).
        raise SystemExit(EXIT_DONE)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)


def _log_into_run(welcome: Welcome) -> None:
    """Also log into the run folder, if the learner is on this host."""
    run_dir = Path(welcome.run_dir)
    path = run_dir / "logs" / f"reward_worker-{os.getpid()}.log"
    if welcome.host == this_host() and run_dir.is_dir() and not path.exists():
        log_to_file(path)
        log.info("joined run %s (epoch %d)", welcome.run_id, welcome.run_epoch)
