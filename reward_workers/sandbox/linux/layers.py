"""Each layer of confinement on Linux: what was found, and what to do where it is missing."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from reward_workers.sandbox.harness.linux import landlock
from reward_workers.sandbox.harness.linux.syscalls import ARCHITECTURES, Kernel
from reward_workers.sandbox.layers import Layer
from reward_workers.sandbox.linux import bwrap

PROBE_SECONDS = 30
_UNPRIVILEGED = Path("/proc/sys/kernel/unprivileged_userns_clone")
_APPARMOR = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")


def check_all() -> list[Layer]:
    """Every layer, in the order in which a worker needs them; the last, a worker that tests
    itself, is the backend's. Blocks for some 50 ms."""  # noqa: D205, D209
    system = _system()
    return [system, *confinement(), *_tools(), namespaces()] if system.ok else [system]


def confinement() -> list[Layer]:
    """What a process does to itself: needed with and without namespaces."""
    return [_landlock(), _seccomp(), _schedstat()]


def namespaces() -> Layer:
    """Whether bubblewrap can make a sandbox with namespaces here."""
    name = "namespaces"
    if shutil.which("bwrap") is None:
        remedy = "install it: `sudo apt install bubblewrap`, or your system's package of that name"
        return Layer(name, False, "bwrap is not in PATH", remedy)
    line = ["bwrap", "--unshare-user", "--unshare-all", "--disable-userns"]
    line += ["--ro-bind", "/", "/", "--tmpfs", "/tmp", "true"]  # noqa: S108 - the sandbox's own
    if os.geteuid() == 0:
        line = [*bwrap.DROP_ROOT, *line]
    probe = subprocess.run(  # noqa: S603 - our own command line
        line, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False, cwd="/"
    )
    said = probe.stderr.strip().rpartition("\n")[2]
    detail = f"bwrap cannot make a sandbox: {said}" if probe.returncode else "bwrap makes sandboxes"
    return Layer(name, probe.returncode == 0, detail, _namespaces_remedy())


def _namespaces_remedy() -> str:
    if _is_set(_UNPRIVILEGED, "0"):
        return "allow them: `sudo sysctl kernel.unprivileged_userns_clone=1`"
    if _is_set(_APPARMOR, "1"):
        return "allow them: `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
    return (
        "in a container, start it with `--security-opt seccomp=unconfined --security-opt "
        "apparmor=unconfined --security-opt systempaths=unconfined`, or allow the loss by "
        "allow_degraded: [namespaces]"
    )


def _is_set(path: Path, value: str) -> bool:
    try:
        return path.read_text().strip() == value
    except OSError:
        return False


def _system() -> Layer:
    found = f"{sys.platform} on {platform.machine()}"
    ok = sys.platform == "linux" and platform.machine() in ARCHITECTURES
    return Layer("system", ok, found, "use Linux on x86-64 or aarch64, or macOS")


def _landlock() -> Layer:
    remedy = "use a kernel from 5.13 on, with landlock in the boot option lsm="
    try:
        return Layer("landlock", True, f"ABI {landlock.version(Kernel())}", remedy)
    except OSError as error:
        return Layer("landlock", False, f"the kernel says {error}", remedy)


def _seccomp() -> Layer:
    actions = Path("/proc/sys/kernel/seccomp/actions_avail")
    found = actions.read_text().split() if actions.exists() else []
    ok = {"kill_process", "errno", "allow"} <= set(found)
    detail = f"actions: {' '.join(found) or 'none'}"
    return Layer("seccomp", ok, detail, "use a kernel from 4.14 on, with CONFIG_SECCOMP_FILTER")


def _schedstat() -> Layer:
    ok = Path("/proc/self/schedstat").exists()
    detail = "time spent waiting for a CPU is told" if ok else "no /proc/self/schedstat"
    return Layer("schedstat", ok, detail, "use a kernel with CONFIG_SCHED_INFO, and mount /proc")


def _tools() -> list[Layer]:
    """Of root, which gives up its user id first."""
    if os.geteuid() != 0:
        return []
    missing = [tool for tool in ("unshare", "setpriv", "mount") if shutil.which(tool) is None]
    remedy = "install util-linux, or start as an ordinary user"
    found = f"not in PATH: {', '.join(missing)}" if missing else "unshare, setpriv and mount"
    tools = Layer("root's tools", not missing, found, remedy)
    return [tools, _private_mounts()] if tools.ok else [tools]


def _private_mounts() -> Layer:
    """Whether root can show the sandbox's user what that user cannot reach."""
    name, remedy = "interpreter", "start as an ordinary user, or install Python where all can read"
    prefix = bwrap.own_interpreter().prefix
    if bwrap.is_reachable(prefix):
        return Layer(name, True, f"{prefix} can be read by the sandbox's user", remedy)
    line = ["unshare", "--mount", "--propagation=private", "mount", "--bind", "/mnt", "/mnt"]
    probe = subprocess.run(  # noqa: S603 - our own command line
        line, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False
    )
    said = probe.stderr.strip().rpartition("\n")[2]
    detail = f"{prefix} cannot be reached by the sandbox's user, and it cannot be bound: {said}"
    found = f"{prefix} is bound to where the sandbox's user can read it"
    ok = probe.returncode == 0
    return Layer(name, ok, found if ok else detail, remedy)
