"""`python -m learner --config FILE`: the learner alone; peers dial it."""

import argparse
import os
import signal
from pathlib import Path
from typing import NoReturn

from learner.assemble import assemble, check
from learner.resume import refuse_contradiction, refuse_existing
from learner.run_folder import RunFolder
from protocol.config import RunConfig
from protocol.config_file import load_config
from protocol.errors import RunStopped
from protocol.process import arm_hard_exit, die_with_parent, private_tmpdir, run_main
from protocol.telemetry import log_to_file, setup_logging

STOP_SECONDS = 3.0

STARTED_BY = {"MLX_RL_SUPERVISED", "HONCHO_PROCESS_NAME"}
"""Environment variables of mlx-train and honcho; a learner started from a shell may outlive it."""


def main() -> int:
    """Parse the command line, check or run."""
    parser = argparse.ArgumentParser(prog="python -m learner", description=__doc__)
    parser.add_argument("--config", required=True, help="a YAML file")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=c")
    parser.add_argument("--run-dir", type=Path, help="default: runs/<run.name>")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--check", action="store_true", help="check config and data, then exit")
    parser.add_argument("--log-level", default=os.environ.get("LOG_LEVEL", "INFO"))
    arguments = parser.parse_args()
    setup_logging(arguments.log_level)
    config = load_config(arguments.config, arguments.set)
    if arguments.check:
        check(config)
        return 0
    if STARTED_BY & os.environ.keys():
        die_with_parent()
    run_dir = arguments.run_dir or Path("runs", config.run.name)
    refuse_existing(run_dir, resume=arguments.resume)
    if arguments.resume:
        refuse_contradiction(run_dir, config)
    with private_tmpdir():
        return _train(config, RunFolder(run_dir), resume=arguments.resume)


def _train(config: RunConfig, folder: RunFolder, *, resume: bool) -> int:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    learner = assemble(config, folder, resume=resume, run_id=os.environ.get("RUN_ID", ""))
    log_to_file(folder.logs / "learner.log")
    learner.exchange.start()
    reason = "the run is complete"
    try:
        learner.loop.run()
    except BaseException as error:
        reason = f"the run ended early: {error}"
        raise
    finally:
        learner.close(reason)
    return 0


def _stop(number: int, _frame: object) -> NoReturn:
    """End a step that cannot end by itself in time; the last checkpoint is the point to resume."""
    arm_hard_exit(STOP_SECONDS, 128 + number)
    raise RunStopped(f"told to end by {signal.Signals(number).name}")


if __name__ == "__main__":
    run_main(main)
