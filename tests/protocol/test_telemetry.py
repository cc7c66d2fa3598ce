import datetime
import json
import logging
import os
import subprocess
import sys
from typing import Any

import pytest

from learner.launch.role_process import MAX_LINE_BYTES
from protocol.errors import ConfigError
from protocol.telemetry import MAX_JSON_BYTES, log_to_file, process_name, setup_logging


def test_logs_go_to_standard_error_as_plain_lines_where_there_is_no_terminal():
    code = (
        "from protocol.telemetry import setup_logging; import logging; setup_logging('INFO'); "
        "logging.getLogger('learner').info('hello'); logging.getLogger('learner').debug('quiet')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == ""
    assert ran.stderr.endswith("INFO    learner: hello\n")
    assert "quiet" not in ran.stderr


def test_a_log_file_is_made_with_its_folder_and_appended_to(tmp_path):
    path = tmp_path / "logs" / "learner.log"
    root = logging.getLogger()
    for text in ("first", "grüße"):
        log_to_file(path)
        root.handlers[-1].setLevel("WARNING")
        root.warning(text)
        root.handlers.pop().close()
    assert [line.rsplit(": ")[-1] for line in path.read_text("utf-8").splitlines()] == [
        "first",
        "grüße",
    ]


def run_logging(code: str, **environment: str) -> list[dict[str, Any]]:
    """The lines of a process that logs as JSON."""
    start = "import logging; from protocol.telemetry import setup_logging; "
    ran = subprocess.run(
        [sys.executable, "-c", f"{start}setup_logging('INFO', 'json')\n{code}"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    assert ran.stdout == ""
    return [json.loads(line) for line in ran.stderr.splitlines()]


def test_json_is_one_object_a_line():
    code = "logging.getLogger('actors').warning('%s\\n\\x1b[2J', 'grüße')"
    (row,) = run_logging(code, HONCHO_PROCESS_NAME="actor.2")
    time = datetime.datetime.fromisoformat(row.pop("time"))
    assert time.utcoffset() == datetime.timedelta(0)
    assert abs(time.timestamp() - datetime.datetime.now(datetime.UTC).timestamp()) < 60
    assert row == {
        "level": "WARNING",
        "logger": "actors",
        "message": "grüße\n\x1b[2J",
        "process": "actor.2",
    }


def test_json_has_an_exceptions_traceback():
    code = "try: 1 / 0\nexcept ZeroDivisionError: logging.getLogger('a').exception('no')"
    (row,) = run_logging(code)
    assert row["message"] == "no"
    assert row["exception"].startswith("Traceback")
    assert row["exception"].endswith("ZeroDivisionError: division by zero")


def test_a_json_line_is_never_longer_than_mlx_train_shows():
    code = (
        "log = logging.getLogger('a'); log.info('ü' * 9000)\n"
        "try: raise ValueError('\\n' * 9000 + 'end')\n"
        "except ValueError: log.exception('x' * 9000)"
    )
    long, both = run_logging(code)
    assert all(len(json.dumps(row)) <= MAX_JSON_BYTES < MAX_LINE_BYTES for row in (long, both))
    assert long["message"].endswith("ü...")
    assert len(json.dumps(long)) > MAX_JSON_BYTES - 10
    assert both["exception"] in ("...", "...end")


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("/x/actors/__main__.py", "actor"),
        ("/x/reward_workers/__main__.py", "reward_worker"),
        ("/x/learner/__main__.py", "learner"),
        ("/x/bin/mlx-train", "mlx-train"),
    ],
)
def test_a_process_is_called_by_its_role_and_pid(monkeypatch, program: str, name: str):
    monkeypatch.delenv("HONCHO_PROCESS_NAME", raising=False)
    monkeypatch.setattr(sys, "argv", [program])
    assert process_name() == f"{name}.{os.getpid()}"


@pytest.mark.parametrize(
    ("level", "log_format", "words"),
    [("LOUD", "text", "log level 'LOUD'"), ("INFO", "xml", "'xml': wanted one of text, json")],
)
def test_an_unknown_level_or_format_is_refused(level: str, log_format: str, words: str):
    with pytest.raises(ConfigError, match=words):
        setup_logging(level, log_format)
