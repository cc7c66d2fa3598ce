import shlex
import sys
from pathlib import Path

import pytest

from reward_workers.sandbox.linux import bwrap

if sys.platform != "linux":
    pytest.skip("Linux only", allow_module_level=True)

SYSTEM_PYTHON = bwrap.Interpreter("/usr/bin/python3", "/usr")


@pytest.fixture
def ordinary_user(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)


@pytest.fixture
def root(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)


def options(line):
    return line[: line.index("--")]


@pytest.mark.usefixtures("ordinary_user")
def test_an_ordinary_user_starts_bubblewrap_itself():
    line = bwrap.command(SYSTEM_PYTHON, None, 7, ["fresh", "{}"])
    assert line[0] == "bwrap"
    assert line[line.index("--") + 1 :] == [
        "/usr/bin/python3",
        *bwrap.PYTHON_OPTIONS,
        "/harness.zip",
        "fresh",
        "{}",
    ]


@pytest.mark.usefixtures("ordinary_user")
@pytest.mark.parametrize(
    "option",
    ["--unshare-user", "--unshare-all", "--disable-userns", "--die-with-parent", "--clearenv"],
)
def test_no_layer_is_left_to_chance(option):
    assert option in options(bwrap.command(SYSTEM_PYTHON, None, 7, []))


@pytest.mark.usefixtures("ordinary_user")
def test_the_host_is_shown_read_only_and_without_its_own_folders():
    line = bwrap.command(SYSTEM_PYTHON, Path("/opt"), 7, [])
    binds = [line[at + 2] for at, word in enumerate(line) if word == "--ro-bind"]
    assert {"/usr", "/packages"} <= set(binds) <= {"/usr", "/packages", "/lib", "/lib32", "/lib64"}
    assert not {"--bind", "--proc", "--share-net"} & set(line)


@pytest.mark.usefixtures("root")
def test_root_gives_up_its_user_before_the_sandbox_is_made():
    line = bwrap.command(SYSTEM_PYTHON, None, 7, [])
    assert line[:3] == ["unshare", "--mount", "--propagation=private"]
    script = line[-1]
    assert "mount -t tmpfs" not in script
    words = shlex.split(script[script.index("exec ") :])
    assert words[: 2 + len(bwrap.DROP_ROOT)] == ["exec", *bwrap.DROP_ROOT, "bwrap"]


@pytest.mark.usefixtures("root")
def test_what_only_root_can_reach_is_bound_to_where_the_sandbox_can(tmp_path):
    hidden = tmp_path / "it's python"
    hidden.mkdir()
    tmp_path.chmod(0o700)
    python = bwrap.Interpreter(f"{hidden}/bin/python", str(hidden))
    script = bwrap.command(python, None, 7, [])[-1]
    assert f"mount --bind {shlex.quote(str(hidden))} /mnt/0" in script
    words = shlex.split(script)
    at = words.index("/mnt/0", words.index("bwrap"))
    assert words[at - 1 : at + 2] == ["--ro-bind", "/mnt/0", str(hidden)]


def test_a_folder_behind_a_closed_one_cannot_be_reached(tmp_path):
    inner = tmp_path / "closed" / "inner"
    inner.mkdir(parents=True)
    inner.chmod(0o755)
    (tmp_path / "closed").chmod(0o700)
    assert not bwrap.is_reachable(str(inner))
    assert bwrap.is_reachable("/usr")
