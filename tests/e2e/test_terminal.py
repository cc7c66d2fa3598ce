"""What mlx-train shows of a real run: the live view on a terminal, and one JSON object a line."""

import json
import re
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SHORT = (
    "run.max_steps=3",
    "roles.actor=1",
    "evaluation.before_training=false",
    'data.heldout=["arithmetic:add2?count=64"]',
)
MLX_TRAIN = Path(sys.executable).with_name("mlx-train")
ON_A_TERMINAL = """
import os, pty, sys
sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))
"""


def test_a_terminal_shows_the_live_view(start, tmp_path: Path, port: int):
    network = (f"network.port={port}", f"network.http_port={port + 4}")
    sets = [part for override in (*network, *SHORT) for part in ("--set", override)]
    command = (
        MLX_TRAIN,
        "--config",
        "configs/quickstart.yaml",
        "--run-dir",
        tmp_path / "run",
        *sets,
    )
    size = {"COLUMNS": "60", "LINES": "24"}
    run = start(
        sys.executable, "-c", ON_A_TERMINAL, *command, TERM="xterm-256color", NO_COLOR="", **size
    )
    run.succeeds()
    drawn = re.sub(r"\x1b\[[0-9;]*m", "", run.stdout).split("\x1b[2K")  # a line is erased
    last = drawn[-1]
    assert sum("elapsed" in text for text in drawn) > 3
    assert re.search(r"^step 3/3 .*100%  0:\d\d elapsed", last, re.M), last
    assert re.search(r"^reward    \d\.\d{3}  [▁-█]{3}$", last, re.M), last
    assert re.search(r"^held-out  accuracy 0\.\d+", last, re.M), last
    assert re.search(r"^rates     \d+ tokens/s  [\d.]+ samples/s", last, re.M), last
    assert re.search(r"^time      wait \d+%  train \d+%  publish \d+%", last, re.M), last
    assert re.search(r"^peers     1 of 1 actors", last, re.M), last
    assert re.search(r"^staleness mean \d\.\d\d, max \d", last, re.M), last
    assert f"run page  http://127.0.0.1:{port + 4}/" in last
    assert f"run folder {run.run_dir}" in last


def test_with_json_every_line_is_one_object(train):
    run = train(*SHORT, options=("--log-format", "json"))
    run.succeeds()
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    events = [row for row in rows if "event" in row]
    records = [row for row in rows if "event" not in row]
    assert {"progress", "summary"} == {row["event"] for row in events}
    assert (events[-1]["event"], events[-1]["step"], events[-1]["code"]) == ("summary", 3, 0)
    assert events[-2]["step"] == events[-2]["max_steps"] == 3
    wanted = {"time", "level", "message", "process"}
    assert all(wanted <= row.keys() <= wanted | {"logger", "exception"} for row in records)
    by_learner = [row for row in records if row["process"] == "learner.1" and "logger" in row]
    assert by_learner, "its log came as records"
    assert all(row["time"].endswith("Z") for row in rows)
    assert not any("{" in row["message"] and "logger" in row["message"] for row in records)
