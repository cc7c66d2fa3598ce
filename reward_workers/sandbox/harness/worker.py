"""The worker's one job, once it is confined. Nothing that it says is believed on its word."""

import importlib
import socket

from reward_workers.sandbox.harness import calls, stdio, tester
from reward_workers.sandbox.harness.frames import MAX_TO_WORKER, receive
from reward_workers.sandbox.harness.programs import add_exit

_MODES = {"calls": calls.run, "stdio": stdio.run, "tester": tester.run}

_USUAL_IMPORTS = (
    "array",
    "asyncio",
    "bisect",
    "cmath",
    "collections",
    "contextlib",
    "copy",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "functools",
    "hashlib",
    "heapq",
    "inspect",
    "itertools",
    "numbers",
    "operator",
    "random",
    "statistics",
    "string",
    "tempfile",
    "textwrap",
    "traceback",
    "typing",
    "unittest",
)


def preload() -> None:
    """Import what candidates and tests usually import, for all the workers that are forked."""
    for name in _USUAL_IMPORTS:
        importlib.import_module(name)


def serve(channel: socket.socket) -> None:
    """Hear the job and do it; in stdio mode the process ends with it.

    Args:
        channel: blocking, frames of frames.py.

    Raises:
        EOFError: the supervisor had no job.
        KeyError: the job is of no known mode.
    """
    add_exit()
    job = receive(channel, MAX_TO_WORKER)
    _MODES[job["mode"]](channel, job)
