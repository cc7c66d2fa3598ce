"""What a live child has used, by the system's own count."""

import sys
from collections.abc import Callable

from reward_workers.sandbox.backend import Usage

ReadUsage = Callable[[int], Usage | None]
"""Of a process id; None when the process has ended."""


def system_usage() -> ReadUsage:
    """The reader of this system."""
    if sys.platform == "darwin":
        from reward_workers.sandbox.macos.darwin import read_usage
    else:
        from reward_workers.sandbox.linux.usage import read_usage
    return read_usage
