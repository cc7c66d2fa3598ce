"""Which backend this machine gets."""

import sys
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from protocol.errors import SandboxUnavailable
from reward_workers.sandbox.backend import Backend

DEGRADATIONS = ("namespaces",)
"""Layers that a user may allow to be missing, by name; results say so."""


def choose_backend(
    *,
    start: Literal["auto", "fork", "fresh"],
    allow_degraded: Collection[str],
    packages: Path | None,
) -> Backend:
    """The way to make confined workers here.

    Args:
        start: how a worker comes to be; "auto" is a clone of a zygote where the system can.
        allow_degraded: layers that may be missing.
        packages: folder of more packages for candidates.

    Raises:
        SandboxUnavailable: this system has no backend, or a layer is missing that may not be.
        ValueError: a degradation that does not exist.
    """
    if start not in ("auto", "fork", "fresh"):
        raise ValueError(f"start is {start!r}, wanted auto, fork or fresh")
    if isinstance(allow_degraded, str):
        raise ValueError(f"allow_degraded is {allow_degraded!r}, wanted a list of names")
    if packages is not None and not Path(packages).is_dir():
        raise ValueError(f"packages: no folder {packages}")
    unknown = sorted(set(allow_degraded) - set(DEGRADATIONS))
    if unknown:
        raise ValueError(f"allow_degraded has {unknown}, known are {list(DEGRADATIONS)}")
    if sys.platform == "darwin":
        if start == "fork":
            raise SandboxUnavailable("macOS has no start=fork: use auto or fresh")
        from reward_workers.sandbox.macos.backend import MacosBackend

        return MacosBackend(packages)
    if sys.platform == "linux":
        return _linux_backend(start, "namespaces" in allow_degraded, packages)
    raise SandboxUnavailable(f"untrusted code is confined on Linux and macOS, not {sys.platform}")


def _linux_backend(start: str, may_degrade: bool, packages: Path | None) -> Backend:
    from reward_workers.sandbox.linux import layers
    from reward_workers.sandbox.linux.backend import LinuxFork, LinuxFresh
    from reward_workers.sandbox.linux.direct import LinuxDirect

    if may_degrade and not layers.namespaces().ok:
        if start == "fork":
            raise SandboxUnavailable(layers.namespaces().sentence())
        return LinuxDirect(packages)
    return LinuxFresh(packages) if start == "fresh" else LinuxFork(packages)
