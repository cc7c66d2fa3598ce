"""Each layer of confinement on macOS: what was found, what to do. Not exercised on a Mac yet."""

import os
import platform
import sys

from reward_workers.sandbox.harness.macos import seatbelt
from reward_workers.sandbox.layers import Layer
from reward_workers.sandbox.macos import darwin

OLDEST = (14, 0)
"""Of the systems that RLIMIT_AS and the profile's operations were looked up for."""


def check_all() -> list[Layer]:
    """Every layer, in the order in which a worker needs them; the last, a worker that tests itself,
    is the backend's."""  # noqa: D205, D209
    version = version_layer(sys.platform, platform.mac_ver()[0])
    if not version.ok:
        return [version]
    layers = [version, _interpreter(), _libsandbox()]
    if all(layer.ok for layer in layers):
        layers += [_not_sandboxed(), _usage()]
    return layers


def version_layer(system: str, version: str) -> Layer:
    """Whether this is a macOS that is new enough."""
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    return Layer(
        "macOS",
        system == "darwin" and numbers >= OLDEST,
        f"{system} {version}".strip(),
        f"macOS {OLDEST[0]} or newer is needed",
    )


def _interpreter() -> Layer:
    detail = f"{sys.executable} runs as {os.uname().machine}"
    remedy = "use an arm64 Python, not one under Rosetta"
    return Layer("native interpreter", darwin.is_native(), detail, remedy)


def _libsandbox() -> Layer:
    missing = seatbelt.missing_symbols()
    detail = f"missing: {', '.join(missing)}" if missing else "all functions found"
    remedy = "this macOS has dropped them: code rewards cannot be confined here"
    return Layer("libsandbox", not missing, detail, remedy)


def _not_sandboxed() -> Layer:
    inside = seatbelt.is_sandboxed()
    return Layer(
        "no sandbox around",
        not inside,
        "inside another Seatbelt sandbox" if inside else "not inside a sandbox",
        "Seatbelt does not nest: start from a plain Terminal, not from a sandboxed app",
    )


def _usage() -> Layer:
    used = darwin.read_process(os.getpid())
    return Layer(
        "proc_pid_rusage",
        used is not None and used.cpu_seconds > 0 and used.footprint_bytes > 0,
        "no answer" if used is None else f"{used.footprint_bytes >> 20} MB footprint",
        "memory and CPU time cannot be metered here: code rewards cannot be run",
    )
