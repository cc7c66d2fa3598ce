"""One evaluation of one model, by the roles of an ordinary run that trains nothing."""

import tempfile
from pathlib import Path

from learner.launch.command import check_by_roles, role_environment, run_roles
from protocol.config import RunConfig
from protocol.config_file import dump_config
from protocol.errors import TrainerError
from protocol.telemetry import TEXT_FORMAT


def evaluate(config: RunConfig, run_dir: Path, log_level: str) -> None:
    """Start learner, actors and reward workers, and wait until they have evaluated.

    Args:
        config: with `run.max_steps` 0.
        run_dir: filled as a run's: config.yaml, eval.jsonl, evaluations/, logs/.
        log_level: of the roles.

    Raises:
        ConfigError: what a role refused, in its own words.
        TrainerError: it did not come to its end.
    """
    with tempfile.TemporaryDirectory(prefix="mlxrl-eval-") as folder:
        config_file = Path(folder) / "config.yaml"
        config_file.write_text(dump_config(config), encoding="utf-8")
        check_by_roles(config_file)
        environment = role_environment(config.network, config_file, run_dir, log_level)
        launcher = run_roles(config, run_dir, environment, TEXT_FORMAT)
    if launcher.returncode:
        raise TrainerError(f"{launcher.reason} (logs in {run_dir / 'logs'})")
