"""Where the harness starts: `python harness.zip MODE ...`, in its sandbox, with nothing else.

    zygote PLACE CONTROL                                  Linux: clones a worker for each request
    fresh  PLACE LIMITS CHANNEL STDOUT STDERR STATUS      Linux: is one worker's guardian
    macos  SETTINGS                                       macOS: is one worker

PLACE, LIMITS and SETTINGS are JSON, the others are descriptors.
"""

import sys


def main() -> None:
    """Become a worker, in this process or in clones of it, and serve its one job."""
    mode, *arguments = sys.argv[1:]
    if mode == "macos":
        from reward_workers.sandbox.harness.macos import worker as macos_worker

        macos_worker.main(*arguments)
    else:
        from reward_workers.sandbox.harness.linux import worker as linux_worker

        linux_worker.main(mode, *arguments)
