"""`python -m learner --config FILE`: the learner alone; peers dial it."""

import argparse
import logging
import os
import signal
from pathlib import Path
from typing import NoReturn

from learner.assemble import assemble, check
from learner.disk import Disk
from learner.resume import LATEST, Resume, check_start, parse_resume
from learner.run_folder import RunFolder
from protocol.config import RunConfig
from protocol.config_file import load_config
from protocol.errors import RunStopped
from protocol.process import (
    STOP_SECONDS,
    STOP_SIGNALS,
    die_with_parent,
    end_within,
    private_tmpdir,
    run_main,
)
from protocol.telemetry import log_to_file, setup_logging

log = logging.getLogger("learner")

STARTED_BY = {"MLX_RL_SUPERVISED", "HONCHO_PROCESS_NAME"}
"""Environment variables of mlx-train and honcho; a learner started from a shell may outlive it."""


class _ToldToEnd(RunStopped):
    """Somebody sent a signal."""


def main() -> int:
    """Parse the command line, check or run."""
    parser = argparse.ArgumentParser(prog="python -m learner", description=__doc__)
    parser.add_argument("--config", required=True, help="a YAML file")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c")
    parser.add_argument("--run-dir", type=Path, help="default: runs/<run.name>")
    parser.add_argument("--resume", nargs="?", const=LATEST, metavar="STEP|FOLDER")
    parser.add_argument("--check", action="store_true", help="check config and data, then exit")
    parser.add_argument("--log-level", default=os.environ.get("LOG_LEVEL", "INFO"))
    parser.add_argument("--log-format", default=os.environ.get("LOG_FORMAT", "text"))
    arguments = parser.parse_args()
    if STARTED_BY & os.environ.keys():
        die_with_parent()
    setup_logging(arguments.log_level, arguments.log_format)
    config = load_config(arguments.config, arguments.set)
    if arguments.check:
        check(config)
        return 0
    run_dir = arguments.run_dir or Path("runs", config.run.name)
    resume = parse_resume(arguments.resume, run_dir)
    check_start(run_dir, resume, config)
    for number in STOP_SIGNALS:
        signal.signal(number, _stop)
    end_within(STOP_SECONDS)
    with private_tmpdir():
        return _train(config, _folder(run_dir, config), resume=resume)


def _folder(run_dir: Path, config: RunConfig) -> RunFolder:
    return RunFolder(run_dir, Disk(config.learner.no_progress_seconds))


def _train(config: RunConfig, folder: RunFolder, *, resume: Resume | None) -> int:
    learner = assemble(config, folder, resume=resume, run_id=os.environ.get("RUN_ID", ""))
    log_to_file(folder.logs / "learner.log")
    try:
        learner.start()
        learner.loop.run()
    except BaseException as error:
        told = isinstance(error, _ToldToEnd)
        log.warning("the run ended early: %s", error)  # for who looks into the run folder later
        learner.close(f"the run ended early: {error}", is_over=told, hurry=True)
        raise
    learner.close("the run is complete", is_over=True)
    return 0


def _stop(number: int, _frame: object) -> NoReturn:
    """End a step between two of its calls; the last checkpoint is the point to resume."""
    raise _ToldToEnd(f"told to end by {signal.Signals(number).name}")


if __name__ == "__main__":
    run_main(main)
