"""The command line of bubblewrap: what a confined interpreter finds around it on Linux.

It finds the system's libraries, the interpreter, four devices and an empty /tmp. There is no
/proc, /sys, /etc or /home, no network, and no process but its own.

    as an ordinary user    bwrap ... python harness.zip MODE ...
    as root                unshare --mount sh -c 'mount --bind ...; exec setpriv ... bwrap ...'

Root gives up its user id first: inside a user namespace that root has made, its files would still
be root's. Where the other user cannot reach the interpreter (in root's home), the shell binds it
to a place that it can, in a mount namespace that ends with it. no_new_privs is left to bwrap,
because a security module that gives bwrap its own profile could not do so any more.
"""

import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HARNESS = "/harness.zip"
PACKAGES = "/packages"
TMP = "/tmp"  # noqa: S108 - the sandbox's own
NOBODY = 65534
DROP_ROOT = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")

ENVIRONMENT = {
    "PYTHONHASHSEED": "0",
    "PYTHONUTF8": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "MALLOC_ARENA_MAX": "2",
    "HOME": TMP,
    "TMPDIR": TMP,
}
"""The whole environment of a worker; with -s -S -P what `python -I -S` gives, and a fixed hash
seed, so that one program gets one verdict."""

PYTHON_OPTIONS = ("-s", "-S", "-P")
_DEVICES = ("null", "zero", "urandom", "random")
_STAGES = ("/mnt", "/media", "/srv", "/opt")
"""Folders that every system has, to mount over in a namespace of our own."""


@dataclass(frozen=True)
class Interpreter:
    """The supervisor's own interpreter, outside any virtual environment."""

    executable: str
    prefix: str
    """Folder that it and its libraries are in; RUNPATHs are absolute, so it keeps its path."""


def own_interpreter() -> Interpreter:
    """What this process runs on."""
    executable = getattr(sys, "_base_executable", None) or sys.executable
    return Interpreter(os.path.realpath(executable), os.path.realpath(sys.base_prefix))


def is_reachable(path: str) -> bool:
    """Whether any user may enter this folder: all above it may be passed, and itself be read."""
    folder = Path(path)
    passable = all(parent.stat().st_mode & 0o001 for parent in folder.parents)
    return passable and folder.stat().st_mode & 0o005 == 0o005


def command(
    python: Interpreter, packages: Path | None, harness: int, arguments: Sequence[str]
) -> list[str]:
    """Start the harness in a sandbox.

    Args:
        python: the interpreter.
        packages: one more folder that is readable inside, as /packages.
        harness: descriptor that the zip can be read from, once.
        arguments: the harness's, see harness/start.py.
    """
    folders = {python.prefix: python.prefix}
    if Path(python.prefix).is_relative_to("/usr"):
        folders = {}
    if packages is not None:
        folders[PACKAGES] = str(packages.resolve())
    if os.geteuid() != 0:
        return _bwrap(python, folders, harness, arguments)
    staging, folders = _stage(folders)
    inner = shlex.join([*DROP_ROOT, *_bwrap(python, folders, harness, arguments)])
    script = "; ".join(["set -e", "cd /", *staging, f"exec {inner}"])
    return ["unshare", "--mount", "--propagation=private", "sh", "-c", script]


def _stage(folders: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Shell commands that bind what only root can reach, and where the folders are after them."""
    if all(is_reachable(source) for source in folders.values()):
        return [], dict(folders)
    stage = next(path for path in _STAGES if _is_free(path, folders.values()))
    commands = [f"mount -t tmpfs -o mode=0755 stage {stage}"]
    staged: dict[str, str] = {}
    for index, (target, source) in enumerate(folders.items()):
        staged[target] = f"{stage}/{index}"
        commands.append(f"mkdir {stage}/{index}")
        commands.append(f"mount --bind {shlex.quote(source)} {stage}/{index}")
    return commands, staged


def _is_free(stage: str, sources: Iterable[str]) -> bool:
    return os.path.isdir(stage) and not any(Path(path).is_relative_to(stage) for path in sources)


def _bwrap(
    python: Interpreter, folders: Mapping[str, str], harness: int, arguments: Sequence[str]
) -> list[str]:
    # --unshare-all alone goes on without a user namespace where there is none to be had
    line = ["bwrap", "--unshare-user", "--unshare-all", "--disable-userns", "--die-with-parent"]
    line += ["--new-session", "--hostname", "sandbox", "--clearenv", "--cap-drop", "ALL"]
    # for each worker's own namespaces; a worker drops both
    line += ["--cap-add", "CAP_SYS_ADMIN", "--cap-add", "CAP_SETPCAP"]
    line += ["--ro-bind", "/usr", "/usr", *_system_folders()]
    for folder, source in folders.items():
        line += ["--ro-bind", source, folder]
    line += ["--dir", "/dev"]
    for device in _DEVICES:
        line += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    line += ["--perms", "0444", "--ro-bind-data", str(harness), HARNESS]
    # each worker mounts its own on it
    line += ["--dir", TMP, "--remount-ro", "/", "--chdir", TMP]
    for name, value in ENVIRONMENT.items():
        line += ["--setenv", name, value]
    return [*line, "--", python.executable, *PYTHON_OPTIONS, HARNESS, *arguments]


def _system_folders() -> list[str]:
    """The same links or folders that this system has beside /usr."""
    line: list[str] = []
    for folder in ("/lib", "/lib32", "/lib64"):
        if os.path.islink(folder):
            line += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            line += ["--ro-bind", folder, folder]
    return line
