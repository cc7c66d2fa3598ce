"""Which display mlx-train has: JSON lines if asked for, a live view on a terminal, else plain."""

import io
import sys
import time
from pathlib import Path

from rich.console import Console

from learner.launch.addresses import run_page_address
from learner.launch.json_display import JsonDisplay
from learner.launch.live_display import LiveDisplay
from learner.launch.plain_display import PlainDisplay
from learner.launch.progress import RunProgress
from protocol.config import RunConfig
from protocol.config_section import labels_of
from protocol.telemetry import JSON_FORMAT

Display = PlainDisplay | LiveDisplay | JsonDisplay
"""honcho's printer, which the launcher's loop ticks: a display has no thread."""


def choose_display(config: RunConfig, run_dir: Path, log_format: str) -> Display:
    """Return what shows this run on standard output.

    Args:
        config: the run's.
        run_dir: its folder.
        log_format: one of protocol.telemetry.LOG_FORMATS.
    """
    progress = RunProgress(
        run_dir,
        config.run.max_steps,
        since=time.time(),
        rewards=labels_of(config.rewards),
        wanted=config.roles.model_dump(),
        page=run_page_address(config.network),
    )
    if isinstance(sys.stdout, io.TextIOWrapper):  # a model's character must not end the run
        sys.stdout.reconfigure(errors="replace")
    if log_format == JSON_FORMAT:
        return JsonDisplay(progress)
    console = Console()
    if sys.stdout.isatty() and not console.is_dumb_terminal:
        return LiveDisplay(progress, console)
    return PlainDisplay(progress)
