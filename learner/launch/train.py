"""`mlx-train`: a whole run on this machine, every role of the Procfile a process of its own.

Little is imported before signals are taken care of: Ctrl-C may come in the first second.
"""

import signal
from types import FrameType
from typing import NoReturn

from protocol.process import fail, run_main


def main() -> NoReturn:
    """Entry point of `mlx-train`."""
    signal.signal(signal.SIGTERM, _unwind)
    run_main(_train)


def _train() -> int:
    from learner.launch.command import train  # takes a while

    return train()


def _unwind(number: int, _frame: FrameType | None) -> NoReturn:
    """End with what was made removed; while roles run, the launcher's handler is in place."""
    signal.signal(number, signal.SIG_IGN)  # a second one would cut the unwinding short
    raise SystemExit(fail(f"interrupted by {signal.Signals(number).name}", 128 + number))
