import os
import subprocess
import sys

import pytest

from protocol.errors import ConfigError
from reward_workers.doctor import HOSTILE, check_sandbox, examine


def doctor(**environment):
    return subprocess.run(
        [sys.executable, "-m", "reward_workers.doctor"],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )


def test_every_layer_of_this_machine_is_there_and_holds():
    found = list(check_sandbox())
    assert [layer.sentence() for layer in found if not layer.ok] == []
    names = {layer.name for layer in found}
    assert {"self-test", "honest program"} <= names
    assert {f"program that {name}" for name in HOSTILE} <= names


@pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is Linux's")
def test_a_missing_bwrap_is_named_with_its_remedy(tmp_path):
    for tool in ("unshare", "setpriv", "mount"):
        (tmp_path / tool).symlink_to(f"/usr/bin/{tool}")
    ended = doctor(PATH=str(tmp_path))
    assert ended.returncode == 1
    assert "MISSING namespaces: bwrap is not in PATH" in ended.stdout
    assert "sudo apt install bubblewrap" in ended.stdout
    assert "self-test" not in ended.stdout


def test_it_prints_a_line_for_each_layer_and_says_all_is_well(capsys):
    assert examine([]) == 0
    printed = capsys.readouterr().out
    assert "MISSING" not in printed
    assert printed.count("  OK ") >= 8


def test_a_layer_that_nobody_may_go_without_is_refused():
    with pytest.raises(ConfigError, match="--allow-degraded seccomp: known are namespaces"):
        list(check_sandbox(["seccomp"]))
