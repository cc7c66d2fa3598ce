"""mlx-train when it is told to end before its roles have started: the real command, real checks."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import psutil
import pytest
import yaml

MLX_TRAIN = [sys.executable, "-P", "-c", "from learner.launch.train import main; main()"]
DEADLINE_SECONDS = 60.0

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Generator[Start]:
    """Starts mlx-train with a folder of its own for temporary files."""
    started: list[subprocess.Popen[str]] = []
    (tmp_path / "tmp").mkdir()

    def begin(*arguments: str, **environment: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [*MLX_TRAIN, *arguments],
            cwd=tmp_path,
            env={**os.environ, "TMPDIR": str(tmp_path / "tmp"), **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.01)


def slow_to_load(folder: Path) -> str:
    """Returns what loads for ever, and tells when it begins."""
    return f"import pathlib, time\npathlib.Path({str(folder / 'begun')!r}).touch()\ntime.sleep(600)"


@pytest.mark.parametrize(
    ("number", "code", "last"),
    [
        (signal.SIGTERM, 143, "error: interrupted by SIGTERM\n"),
        (signal.SIGINT, 130, "error: interrupted\n"),
        (signal.SIGKILL, -9, ""),
    ],
)
def test_an_end_while_the_config_is_checked_leaves_nothing_behind(
    start: Start, tmp_path: Path, number: signal.Signals, code: int, last: str
):
    (tmp_path / "slow.py").write_text(slow_to_load(tmp_path))
    tree = {
        "model": {"path": "builtin:tiny"},
        "data": {"train": ["arithmetic:add2?count=8"]},
        "rewards": [{"name": f"{tmp_path / 'slow.py'}:f"}],
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(tree))
    process = start("--config", "run.yaml", "--plan")
    wait_for(tmp_path / "begun")
    checks = psutil.Process(process.pid).children(recursive=True)
    assert any("--check-config" in check.cmdline() for check in checks)
    process.send_signal(number)
    _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert (process.returncode, errors) == (code, last)
    assert psutil.wait_procs(checks, timeout=2)[1] == []
    if number != signal.SIGKILL:
        assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("number", "code", "last"),
    [
        (signal.SIGTERM, 143, "error: interrupted by SIGTERM\n"),
        (signal.SIGINT, 130, "error: interrupted\n"),
    ],
)
def test_an_end_while_its_modules_are_loaded_is_one_line(
    start: Start, tmp_path: Path, number: signal.Signals, code: int, last: str
):
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "honcho.py").write_text(slow_to_load(tmp_path))
    process = start("--help", PYTHONPATH=str(tmp_path / "first"))
    wait_for(tmp_path / "begun")
    process.send_signal(number)
    _, errors = process.communicate(timeout=DEADLINE_SECONDS)
    assert (process.returncode, errors) == (code, last)
