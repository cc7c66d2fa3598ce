"""Logging for every role."""

import datetime
import json
import logging
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

from protocol.errors import ConfigError

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
PLAIN_FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"
TEXT_FORMAT, JSON_FORMAT = LOG_FORMATS = ("text", "json")
MAX_JSON_BYTES = 2900
"""Of a JSON line: mlx-train cuts longer ones, and what is left would be no JSON."""


class JsonFormatter(logging.Formatter):
    """Log records as JSON lines of ASCII: time (UTC), level, logger, message, process, exception.

    A line has at most MAX_JSON_BYTES: a long message loses its end, a long traceback its beginning.
    """

    def __init__(self) -> None:
        super().__init__()
        self._process = process_name()

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's line."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        facts = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": self._process,
        }
        if record.exc_info:
            facts["exception"] = self.formatException(record.exc_info)
        line = json.dumps(facts)
        for key, is_kept_at_end in (("exception", True), ("message", False)):
            if key in facts and len(line) > MAX_JSON_BYTES:
                facts[key] = _cut(facts[key], len(line) - MAX_JSON_BYTES, at_start=is_kept_at_end)
                line = json.dumps(facts)
        return line


def _cut(text: str, num_bytes: int, *, at_start: bool) -> str:
    """Return the text with at least so many bytes of its JSON less, and dots in their place."""
    pieces = [json.dumps(character)[1:-1] for character in text]
    if at_start:
        pieces.reverse()
    room = sum(map(len, pieces)) - num_bytes - len("...")
    kept = 0
    while kept < len(pieces) and room >= len(pieces[kept]):
        room -= len(pieces[kept])
        kept += 1
    return "..." + text[len(text) - kept :] if at_start else text[:kept] + "..."


def process_name() -> str:
    """What logs call this process: honcho's name of it, else its role and pid."""
    if name := os.environ.get("HONCHO_PROCESS_NAME"):
        return name
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return f"{name.removesuffix('s') or 'python'}.{os.getpid()}"  # the package actors: an actor


def setup_logging(level: str, format: str = TEXT_FORMAT) -> None:  # noqa: A002 - as logging says
    """Send logs to standard error: rich on a terminal, plain lines elsewhere, or JSON lines.

    Args:
        level: one of LOG_LEVELS.
        format: one of LOG_FORMATS.

    Raises:
        ConfigError: another level or format.
    """
    if level not in LOG_LEVELS:
        raise ConfigError(f"log level {level!r}: wanted one of {', '.join(LOG_LEVELS)}")
    if format not in LOG_FORMATS:
        raise ConfigError(f"log format {format!r}: wanted one of {', '.join(LOG_FORMATS)}")
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if format == JSON_FORMAT:
        handler.setFormatter(JsonFormatter())
    elif sys.stderr.isatty():
        handler = RichHandler(console=Console(stderr=True), show_path=False, rich_tracebacks=True)
        handler.setFormatter(logging.Formatter("%(name)s: %(message)s", "%H:%M:%S"))
    else:
        handler.setFormatter(logging.Formatter(PLAIN_FORMAT, "%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler], force=True)


def log_to_file(path: Path) -> None:
    """Also write logs to a file of the run folder, by appending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter(PLAIN_FORMAT))
    logging.getLogger().addHandler(handler)
