"""`mlx-view RUN_DIR`: the run page of a run, whether it goes on or has ended.

It reads the run folder alone, so that a copy of one is as good. Ctrl-C ends it. Exit code 2: the
folder is no run's, or the port is taken.
"""

import argparse
import signal
import sys
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from learner.run_page.app import run_page
from protocol.errors import ConfigError
from protocol.http_server import HttpServer
from protocol.process import EXIT_DONE, STOP_SIGNALS, run_main
from protocol.telemetry import setup_logging

PORT = 19561
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where a browser finds them


def main() -> NoReturn:
    """Entry point of `mlx-view`."""
    run_main(view)


def view(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal ends it; returns the exit code.

    Raises:
        ConfigError: no run folder, or the port is taken.
    """
    ended = threading.Event()
    for number in STOP_SIGNALS:
        signal.signal(number, lambda _number, _frame: ended.set())
    given = _parser().parse_args(arguments)
    setup_logging("WARNING")
    refuse_no_run(given.run_dir)
    server = HttpServer(
        given.bind, given.port, run_page(given.run_dir), port_setting="--bind or --port"
    )
    try:
        url = url_of(given.bind, server.port)
        sys.stdout.write(f"{given.run_dir}: {url} (Ctrl-C ends this)\n")
        sys.stdout.flush()
        if given.open:
            webbrowser.open(url)
        ended.wait()
    finally:
        server.close()
    return EXIT_DONE


def refuse_no_run(run_dir: Path) -> None:
    """Let nobody look at a folder that is no run's.

    Raises:
        ConfigError: there is no such folder, or it has no config.yaml.
    """
    if not run_dir.is_dir():
        found = f"{run_dir} is a file" if run_dir.exists() else f"there is no run folder {run_dir}"
        raise ConfigError(f"{found}: give a run folder, such as runs/quickstart")
    if not (run_dir / "config.yaml").is_file():
        raise ConfigError(
            f"{run_dir} is no run folder, it has no config.yaml: give one, such as runs/quickstart"
        )


def url_of(bind: str, port: int) -> str:
    """Where a browser on this machine finds the page."""
    host = _EVERYWHERE.get(bind, bind)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("mlx-view", description=__doc__)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="such as runs/mine")
    parser.add_argument("--port", type=int, default=PORT, help="0 takes a free one (%(default)s)")
    parser.add_argument(
        "--bind",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="whoever reaches this address reads every rollout (%(default)s)",
    )
    parser.add_argument("--open", action="store_true", help="open it in the browser")
    return parser
