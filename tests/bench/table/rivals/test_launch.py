"""Runs as processes: what is watched, and that nothing is left."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from bench.table.rivals import launch
from bench.table.rivals.launch import Limits, tree_bytes

# pyright: reportPrivateUsage=false

HOLD = "import time; held = bytearray(b'x' * {0}); print('up', flush=True); time.sleep({1})"


def test_the_memory_of_a_tree_counts_children(tmp_path):
    child = HOLD.format(40 << 20, 60)
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the child's: it holds its memory
        found = tree_bytes(process.pid)
        for each in psutil.Process(process.pid).children():
            each.kill()
    assert found > 40 << 20


def test_the_peak_of_a_run_is_reported(tmp_path):
    command = [sys.executable, "-c", HOLD.format(64 << 20, 0.5)]
    peak = launch._run(command, tmp_path / "log", Limits(1, watch_memory=True), {})
    assert 64 << 20 < peak < 256 << 20
    assert launch._run(command, tmp_path / "log", Limits(1), {}) == 0


def test_a_failed_run_ends_with_the_end_of_its_log_and_leaves_nothing(tmp_path):
    pid_file = tmp_path / "pid"
    code = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {HOLD.format(1, 600)!r}])\n"
        f"open({str(pid_file)!r}, 'w').write(str(child.pid))\n"
        "sys.exit('out of luck')"
    )
    with pytest.raises(RuntimeError, match="out of luck"):
        launch._run([sys.executable, "-c", code], tmp_path / "log", Limits(1), {})
    deadline = time.monotonic() + 10
    child = int(pid_file.read_text())
    while _runs(child) and time.monotonic() < deadline:
        os.sched_yield()
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="macOS pins no process to a core")
def test_a_pinned_run_stays_on_its_core(tmp_path):
    core = launch.only_core()
    code = f"import os, sys; sys.exit(os.sched_getaffinity(0) != {{{core}}})"
    launch._run([sys.executable, "-c", code], tmp_path / "log", Limits(1, core=core), {})
