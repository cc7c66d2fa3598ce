"""`python -m reward_workers`: start a reward worker, or check a config's rewards."""

import argparse
import asyncio
import os
from collections.abc import Sequence

from protocol.config_file import load_config
from protocol.errors import ConfigError
from protocol.own_metrics import HELP, OPTION
from protocol.process import EXIT_DONE, STOP_SECONDS, die_with_parent, end_within, run_main
from protocol.supervise import SUPERVISED, supervised
from protocol.telemetry import setup_logging
from protocol.transport import parse_address
from reward_workers.process import serve
from reward_workers.scoring import check_rewards

DEFAULT_SLOTS = 32


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code.

    Raises:
        ConfigError, UnknownPluginError: the arguments, the config or a reward cannot be used.
    """
    given = _parser().parse_args(arguments)
    if given.check_config:
        if os.environ.get(SUPERVISED) == "1":
            die_with_parent()
        return check_config(given.check_config, given.overrides)
    if not given.learner:
        raise ConfigError("no learner address: give --learner tcp://HOST:PORT, or set LEARNER")
    parse_address(given.learner)
    if given.slots < 1:
        raise ConfigError(f"--slots {given.slots}: wanted 1 or more")
    setup_logging(given.log_level, given.log_format)
    return supervised(
        lambda: _serve(given.learner, given.slots, given.metrics_address), "reward_workers"
    )


def _serve(address: str, slots: int, metrics_address: str | None) -> int:
    end_within(STOP_SECONDS)
    return serve(address, slots, metrics_address)


def check_config(path: str, overrides: Sequence[str]) -> int:
    """Starts what a reward worker would start for a config file, without a learner, and ends it.

    Raises:
        ConfigError, SandboxUnavailable: what would stop a reward worker.
        RewardError: its child was killed or crashed.
    """
    config = load_config(path, overrides)
    rewards = asyncio.run(check_rewards(config))
    print("rewards:", ", ".join(rewards))
    return EXIT_DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m reward_workers", description=__doc__)
    parser.add_argument(
        "--learner",
        default=os.environ.get("LEARNER", ""),
        metavar="ADDRESS",
        help="tcp://HOST:PORT (default: the environment's LEARNER)",
    )
    parser.add_argument(
        "--slots",
        type=int,
        default=DEFAULT_SLOTS,
        metavar="N",
        help="samples to hold at once (default: %(default)s)",
    )
    parser.add_argument(
        "--log-level",
        default=os.environ.get("LOG_LEVEL", "INFO"),
        choices=("DEBUG", "INFO", "WARNING", "ERROR"),
    )
    parser.add_argument("--log-format", default=os.environ.get("LOG_FORMAT", "text"))
    parser.add_argument(OPTION, metavar="[HOST:]PORT", help=HELP)
    parser.add_argument(
        "--check-config", metavar="FILE", help="check this config's rewards and exit: 0 or 2"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="A.B=C",
        help="with --check-config: override a value of the file",
    )
    return parser


if __name__ == "__main__":
    run_main(main)
