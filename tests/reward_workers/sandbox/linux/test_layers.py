import subprocess
import sys

import pytest

from protocol.errors import SandboxUnavailable
from reward_workers.sandbox.layers import require
from reward_workers.sandbox.linux import layers

if sys.platform != "linux":
    pytest.skip("Linux only", allow_module_level=True)


def test_this_machine_has_every_layer():
    found = layers.check_all()
    require(found)
    names = [layer.name for layer in found]
    assert names[0] == "system" and names[-1] == "namespaces"
    assert {"landlock", "seccomp", "schedstat"} <= set(names)


def test_bubblewrap_that_is_not_installed_is_told_with_how_to_get_it(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: None)
    said = layers.namespaces().sentence()
    assert "'namespaces' is missing: bwrap is not in PATH" in said
    assert "sudo apt install bubblewrap" in said


@pytest.mark.parametrize(
    ("sysctl", "value", "remedy"),
    [
        ("_UNPRIVILEGED", "0", "sudo sysctl kernel.unprivileged_userns_clone=1"),
        ("_APPARMOR", "1", "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
        ("_APPARMOR", "0", "--security-opt"),
    ],
)
def test_namespaces_that_are_refused_are_told_with_what_allows_them(
    monkeypatch, tmp_path, sysctl, value, remedy
):
    for name in ("_UNPRIVILEGED", "_APPARMOR"):
        monkeypatch.setattr(layers, name, tmp_path / "absent")
    setting = tmp_path / "sysctl"
    setting.write_text(value + "\n")
    monkeypatch.setattr(layers, sysctl, setting)
    refused = subprocess.CompletedProcess([], 1, "", "bwrap: No permissions to create namespace\n")
    monkeypatch.setattr("subprocess.run", lambda *_, **__: refused)
    layer = layers.namespaces()
    assert not layer.ok
    assert "No permissions to create namespace" in layer.detail and remedy in layer.remedy


def test_a_kernel_without_landlock_is_told_so(monkeypatch):
    def refuse(_):
        raise OSError(38, "landlock_create_ruleset: Function not implemented")

    monkeypatch.setattr("reward_workers.sandbox.harness.linux.landlock.version", refuse)
    with pytest.raises(SandboxUnavailable, match=r"'landlock' is missing.*lsm="):
        require(layers.confinement())
