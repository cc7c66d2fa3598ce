"""`python -m actors --learner tcp://HOST:PORT`: one actor, restarted when it crashes."""

import argparse
import os
import platform
import secrets
import signal
from typing import NoReturn

from protocol.errors import ConfigError
from protocol.fingerprint import fingerprint
from protocol.messages import Hello
from protocol.own_metrics import HELP, OPTION, own_metrics
from protocol.peer import PeerLink
from protocol.process import (
    EXIT_DONE,
    STOP_SECONDS,
    end_within,
    exit_now,
    private_tmpdir,
    run_main,
    this_host,
)
from protocol.supervise import supervised
from protocol.telemetry import setup_logging
from protocol.transport import PeerSockets


def main() -> int:
    """Parse the command line and work until the run ends."""
    parser = argparse.ArgumentParser(prog="python -m actors", description=__doc__)
    parser.add_argument("--learner", default=os.environ.get("LEARNER"), help="tcp://HOST:PORT")
    parser.add_argument("--log-level", default=os.environ.get("LOG_LEVEL", "INFO"))
    parser.add_argument("--log-format", default=os.environ.get("LOG_FORMAT", "text"))
    parser.add_argument(OPTION, metavar="[HOST:]PORT", help=HELP)
    arguments = parser.parse_args()
    if not arguments.learner:
        raise ConfigError("no learner address: give --learner tcp://HOST:PORT or set LEARNER")
    setup_logging(arguments.log_level, arguments.log_format)
    signal.signal(signal.SIGTERM, _end_early)
    end_within(STOP_SECONDS)
    with private_tmpdir():
        return _work(arguments.learner, arguments.metrics_address)


def _work(address: str, metrics_address: str | None) -> int:
    # A supervising parent runs this module too, and has no use for mlx.
    from actors.worker import Actor

    host, pid = this_host(), os.getpid()
    peer = f"actor-{host}-{pid}-{secrets.token_hex(2)}"
    hello = Hello(
        role="actor",
        peer=peer,
        host=host,
        pid=pid,
        run_id=os.environ.get("RUN_ID", ""),
        fingerprint={
            "platform": platform.platform(),
            "python": platform.python_version(),
            **fingerprint(),
        },
    )
    link = PeerLink(hello, PeerSockets(address, peer), address)
    signal.signal(signal.SIGTERM, lambda *_: link.leave(EXIT_DONE, "told to end by SIGTERM"))
    with own_metrics(metrics_address, "actor", link.heartbeat):
        link.start()
        try:
            return Actor(peer, link).run()
        finally:
            link.close("the actor ends")


def _end_early(_number: int, _frame: object) -> NoReturn:
    """Before there is a learner to say goodbye to.

    Nothing is raised: an exception in the midst of importing mlx comes out as another one.
    """
    exit_now(EXIT_DONE)


if __name__ == "__main__":
    run_main(lambda: supervised(main, "actors"))
