"""Run a command as an ordinary user, where the tests run as root.

    python tests/reward_workers/sandbox/as_nobody.py COMMAND ...

The interpreter and the checkout may lie in root's home, which that user cannot enter. So the
folder that bars the way is covered by an empty one, in a mount namespace that ends with the
command, and what the command needs is bound back at its own path.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

NOBODY = 65534
STAGE = "/mnt"
CHECKOUT = Path(__file__).resolve().parents[3]


def run_as_nobody(
    arguments: list[str], *, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run it to its end; its output is text. Runs it as it is where we are no root."""
    return subprocess.run(
        command_as_nobody(arguments),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def command_as_nobody(arguments: list[str]) -> list[str]:
    """The command line that does so; it ends in an exec, so that its pid is the command's."""
    if os.geteuid() != 0:
        return arguments
    wanted = {os.path.realpath(path) for path in (sys.base_prefix, sys.prefix, CHECKOUT)}
    hidden = sorted(path for path in wanted if _barrier(path) is not None)
    steps = ["set -e", f"mount -t tmpfs -o mode=0755 stage {STAGE}"]
    for index, path in enumerate(hidden):
        steps += [f"mkdir {STAGE}/{index}", f"mount --rbind {shlex.quote(path)} {STAGE}/{index}"]
    for barrier in sorted({str(_barrier(path)) for path in hidden}):
        steps.append(f"mount -t tmpfs -o mode=0755 cover {shlex.quote(barrier)}")
    for index, path in enumerate(hidden):
        steps += [f"mkdir -p {shlex.quote(path)}"]
        steps += [f"mount --rbind {STAGE}/{index} {shlex.quote(path)}"]
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    variables = ["env", "HOME=/tmp", "PYTHONDONTWRITEBYTECODE=1"]
    steps.append(f"cd {shlex.quote(str(CHECKOUT))}")
    steps.append("exec " + shlex.join([*drop, *variables, *arguments]))
    return ["unshare", "--mount", "--propagation=private", "sh", "-c", "; ".join(steps)]


def _barrier(path: str) -> str | None:
    """The first folder on the way that others may not pass."""
    for folder in [*reversed(Path(path).parents), Path(path)]:
        if folder.stat().st_mode & 0o001 == 0:
            return str(folder)
    return None


if __name__ == "__main__":
    line = command_as_nobody(sys.argv[1:])
    os.execvp(line[0], line)
