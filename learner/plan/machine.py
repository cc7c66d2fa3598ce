"""What this machine has: memory and cores. Needs no mlx."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from protocol.process import num_cores

_UNLIMITED = 1 << 60
"""A control group without a limit says a number near 2**63."""


@dataclass(frozen=True)
class Machine:
    """The machine that all local roles share."""

    memory_bytes: int
    """Physical, or what a control group leaves of it."""
    num_cores: int
    has_metal: bool
    """One GPU computes for all roles, and its memory is the machine's."""


def this_machine() -> Machine | None:
    """This machine; None where its memory cannot be read."""
    has_metal = sys.platform == "darwin"
    memory_bytes = _mac_memory() if has_metal else _linux_memory(Path("/"))
    if memory_bytes is None:
        return None
    return Machine(memory_bytes, num_cores(), has_metal)


def _mac_memory() -> int | None:
    try:
        said = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "hw.memsize"], capture_output=True, check=True, timeout=5
        )
        return int(said.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _linux_memory(root: Path) -> int | None:
    """MemTotal, or the tightest limit of the control groups that this process is in."""
    found = [*_mem_total(root), *(n for n in _group_limits(root) if 0 < n < _UNLIMITED)]
    return min(found, default=None)


def _mem_total(root: Path) -> Iterator[int]:
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        if line.startswith("MemTotal:"):
            yield int(line.split()[1]) * 1024


def _group_limits(root: Path) -> Iterator[int]:
    for folder, name in _groups(root):
        for parent in (folder, *folder.parents):
            if not parent.is_relative_to(root / "sys/fs/cgroup"):
                break
            try:
                yield int((parent / name).read_text())
            except (OSError, ValueError):  # no such file, or "max"
                continue


def _groups(root: Path) -> Iterator[tuple[Path, str]]:
    """The folder and limit file of each memory control group, versions 2 and 1.

    In a container the group's path may not exist in what is mounted: the mount itself is looked at
    as well.
    """
    mounts = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield mounts / path.lstrip("/"), "memory.max"
        elif "memory" in controllers.split(","):
            yield mounts / "memory" / path.lstrip("/"), "memory.limit_in_bytes"
