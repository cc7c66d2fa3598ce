"""What `mlx-train` does: checks all that can be checked before anything starts, then the launcher.

This process never imports mlx.
"""

import argparse
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import learner
from learner.launch.addresses import WILDCARDS, learner_address
from learner.launch.display import choose_display
from learner.launch.json_display import write_event
from learner.launch.launcher import Launcher
from learner.launch.summary import how_to_go_on, summary, summary_facts
from learner.plan.command import plan_and_show
from learner.plan.fit import refuse_misfit
from learner.resume import LATEST, check_start, parse_resume
from protocol.config import NetworkSection, RunConfig
from protocol.config_file import dump_config, load_config
from protocol.errors import ConfigError, TrainerError
from protocol.process import ERROR_PREFIX, EXIT_BAD_INPUT, EXIT_DONE, die_with_parent, fail
from protocol.supervise import SUPERVISED, describe_exit
from protocol.telemetry import JSON_FORMAT, LOG_FORMATS, TEXT_FORMAT, setup_logging

NUM_PORTS = 4
"""control, rollouts, weights and notice: network.port and the three after it."""


FETCHING = "protocol.hub_model"
"""The logger of a check that tells how far a download is."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message} (mlx-train --help lists the options)")


def train() -> int:
    """Check the command line's run, then plan or run it; returns the exit code.

    Raises:
        ConfigError: something that a check found, in one sentence.
    """
    options = _parse(sys.argv[1:])
    setup_logging(options.log_level, options.log_format)
    try:
        return _check_and_run(options)
    except TrainerError as error:
        if options.log_format == JSON_FORMAT:
            write_event("error", {"reason": str(error)})
        raise


def _check_and_run(options: argparse.Namespace) -> int:
    config = load_config(options.config, options.set)
    run_dir = (options.run_dir or Path("runs") / config.run.name).absolute()
    with tempfile.TemporaryDirectory(prefix="mlxrl-train-") as folder:
        config_file = Path(folder) / "config.yaml"
        config_file.write_text(dump_config(config), encoding="utf-8")
        if options.plan:
            check_by_roles(config_file)
            return plan_and_show(config, config_file, options.plan_completion_tokens)
        check_start(run_dir, parse_resume(options.resume, run_dir), config)
        check_ports(config.network)
        check_by_roles(config_file)
        refuse_misfit(config, ignore=options.ignore_plan)
        if options.dry_run:
            sys.stdout.write(dump_config(config))
            sys.stderr.write("config, plug-ins, data and ports are fine; nothing was started\n")
            return EXIT_DONE
        environment = role_environment(
            config.network, config_file, run_dir, options.log_level, options.log_format
        )
        if options.resume:
            environment["RESUME"] = options.resume
        return _launch(config, run_dir, environment, options.log_format)


def check_ports(network: NetworkSection) -> None:
    """Refuse ports that cannot be bound.

    Raises:
        ConfigError: naming the address and the port.
    """
    host = "0.0.0.0" if network.bind in WILDCARDS else network.bind  # noqa: S104 - as configured
    ports = [*range(network.port, network.port + NUM_PORTS)]
    if network.http_port:
        ports.append(network.http_port)
    for port in ports:
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except OSError as error:
            raise ConfigError(
                f"port {port} on {network.bind} cannot be used ({error.strerror}): end what uses "
                f"it, or choose another with --set {_port_setting(network, port)}"
            ) from None


def _port_setting(network: NetworkSection, port: int) -> str:
    if port == network.http_port:
        return "network.http_port=..."
    return f"network.port=... (the first of {NUM_PORTS}, now {network.port})"


def check_by_roles(config_file: Path) -> None:
    """Let the roles that own plug-ins and data check the config, side by side.

    Raises:
        ConfigError: what a role refused, in its own words.
        TrainerError: a check that failed in another way.
    """
    arguments = {
        "reward_workers": ["--check-config", str(config_file)],
        "learner": ["--check", "--config", str(config_file)],
    }
    checks = {
        module: subprocess.Popen(  # noqa: S603 - our own modules
            [sys.executable, "-m", module, *options],
            env={**os.environ, SUPERVISED: "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            preexec_fn=die_with_parent if sys.platform == "linux" else None,
        )
        for module, options in arguments.items()
    }
    try:
        for module, check in checks.items():
            errors = _heard(check)
            _judge_check(module, check.wait(), errors)
    finally:
        for check in checks.values():
            if check.poll() is None:
                check.kill()
                check.communicate()


def _heard(check: subprocess.Popen[bytes]) -> str:
    """What a check wrote; how far it is with fetching a model is passed on at once."""
    assert check.stderr is not None
    lines: list[str] = []
    for line in check.stderr:
        lines.append(line.decode("utf-8", "replace"))
        if FETCHING in lines[-1]:
            sys.stderr.write(lines[-1])
            sys.stderr.flush()
    return "".join(lines)


def role_environment(
    network: NetworkSection,
    config_file: Path,
    run_dir: Path,
    log_level: str,
    log_format: str = TEXT_FORMAT,
) -> dict[str, str]:
    """Return the environment from which the Procfile's lines take what they need."""
    ours = {
        "PYTHON": sys.executable,
        "CONFIG": str(config_file),
        "RUN_DIR": str(run_dir),
        "LOG_LEVEL": log_level,
        "LOG_FORMAT": log_format,
        "LEARNER": learner_address(network),
        "RUN_ID": secrets.token_hex(8),
        SUPERVISED: "1",
        "PYTHONUNBUFFERED": "1",
    }
    inherited = {name: value for name, value in os.environ.items() if name != "RESUME"}
    return {**inherited, **ours}


def run_roles(
    config: RunConfig, run_dir: Path, environment: Mapping[str, str], log_format: str
) -> Launcher:
    """Run the Procfile's roles to their end; returns the launcher, which knows how it was."""
    procfile = find_procfile().read_text(encoding="utf-8")
    display = choose_display(config, run_dir, log_format)
    launcher = Launcher(display)
    try:
        concurrency = {**config.roles.model_dump(), "learner": 1}
        launcher.add_roles(procfile, concurrency, environment)
        launcher.loop()
    finally:
        display.close()
    return launcher


def find_procfile() -> Path:
    """Return the current directory's Procfile, else that of the checkout that `learner` is in.

    Raises:
        ConfigError: there is neither.
    """
    checkout = Path(learner.__file__).resolve().parent.parent
    for folder in (Path.cwd(), checkout):
        if (folder / "Procfile").is_file():
            return folder / "Procfile"
    raise ConfigError(f"no Procfile in {Path.cwd()} or {checkout}: run mlx-train in a checkout")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _Parser("mlx-train", description="Run a training, every role on this machine.")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE")
    parser.add_argument(
        "--set", action="append", default=[], metavar="A.B=C", help="override one value"
    )
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help="default: runs/<run.name>")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=LATEST,
        metavar="STEP|FOLDER",
        help="continue from the newest checkpoint, or that of a step; or begin a new run at a "
        "checkpoint of another run's folder",
    )
    parser.add_argument("--dry-run", action="store_true", help="check, print the config, and end")
    parser.add_argument(
        "--plan",
        action="store_true",
        help="predict memory and seconds a step, and end (about 1 min)",
    )
    parser.add_argument(
        "--plan-completion-tokens",
        type=_positive,
        metavar="N",
        help="expected mean length for --plan; default: half of generation.max_completion_tokens",
    )
    parser.add_argument(
        "--ignore-plan",
        action="store_true",
        help="start a run even if its roles need more memory than this machine has",
    )
    parser.add_argument("--log-level", default="INFO", metavar="INFO")
    parser.add_argument(
        "--log-format",
        default=TEXT_FORMAT,
        metavar="|".join(LOG_FORMATS),
        help="json: of a run, every line of standard output is one object",
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(f"{text}: wanted 1 or more")
    return number


def _judge_check(module: str, code: int, errors: str) -> None:
    if code == EXIT_DONE:
        return
    lines = errors.strip().splitlines() or [""]
    reason = lines[-1].removeprefix(ERROR_PREFIX)
    if code == EXIT_BAD_INPUT and lines[-1].startswith(ERROR_PREFIX):
        raise ConfigError(reason)
    sys.stderr.write(errors)
    raise TrainerError(f"the check by {module} {describe_exit(code)}: {reason}")


def _launch(
    config: RunConfig, run_dir: Path, environment: Mapping[str, str], log_format: str
) -> int:
    launcher = run_roles(config, run_dir, environment, log_format)
    code = launcher.returncode or EXIT_DONE
    if log_format == JSON_FORMAT:
        write_event("summary", {"code": code, **summary_facts(run_dir, config.run.max_steps)})
        if code:
            write_event("error", {"code": code, "reason": launcher.reason})
    else:
        lines = summary(run_dir)
        if code not in (EXIT_DONE, EXIT_BAD_INPUT) and run_dir.is_dir():
            lines.append(how_to_go_on(run_dir))
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    return fail(launcher.reason, code) if code else code
