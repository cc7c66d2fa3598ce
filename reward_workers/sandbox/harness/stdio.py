"""Stdio mode: the candidate's code as a program, with its input as a file on descriptor 0."""

import atexit
import contextlib
import gc
import io
import mmap
import os
import socket
import sys
import threading
from types import ModuleType
from typing import NoReturn

from reward_workers.sandbox.harness.errors import RESERVE_BYTES, error_of
from reward_workers.sandbox.harness.frames import MAX_FROM_WORKER, send
from reward_workers.sandbox.harness.plain import Json
from reward_workers.sandbox.harness.programs import execute, new_module


def run(channel: socket.socket, job: dict[str, Json]) -> NoReturn:
    """Run the program and end the process, with the program's exit code."""
    reserve = mmap.mmap(-1, RESERVE_BYTES)
    _open_stdin(job["stdin"].encode("utf-8", "surrogatepass"))
    sys.argv = ["main.py"]
    outer = sys.modules.get("__main__")  # kept: its names would die with it
    module = new_module("__main__")
    module.__file__ = "main.py"
    exit_code = 0
    try:
        execute(job["code"], "main.py", module)
    except SystemExit as error:
        exit_code = _exit_code(error)
    except BaseException as error:  # noqa: BLE001 - foreign code, which may raise anything
        reserve.close()
        exit_code = 1
        if isinstance(error, MemoryError):
            send(channel, {"error": error_of(error, "call")}, MAX_FROM_WORKER)
        _report(error)
    exit_code = _leave(module) or exit_code
    del outer
    os._exit(exit_code)


def _open_stdin(content: bytes) -> None:
    import tempfile

    try:
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.seek(0)
            os.dup2(file.fileno(), 0)
        binary: io.BufferedIOBase = open(0, "rb", closefd=False)  # noqa: SIM115
    except OSError:  # more than the temporary folder takes: only descriptor 0 itself is empty then
        binary = io.BytesIO(content)
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(
        binary, encoding="utf-8", errors="surrogateescape", newline="\n"
    )
    sys.stdin.mode = "r"  # pyright: ignore[reportAttributeAccessIssue] - as Python's own has it


def _exit_code(error: SystemExit) -> int:
    """What sys.exit means: None is 0, an int is itself, all else is a message and 1."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    with contextlib.suppress(BaseException):  # foreign code, which may raise anything
        print(error.code, file=sys.stderr)  # noqa: T201
    return 1


def _report(error: BaseException) -> None:
    """The traceback on stderr, without the harness in it."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != "main.py":
        trace = trace.tb_next
    with contextlib.suppress(BaseException):  # foreign code, which may raise anything
        sys.excepthook(type(error), error.with_traceback(trace), trace)


def _leave(module: ModuleType) -> int:
    """What an interpreter does at its end, in its order; 120 where output was lost, as there.

    Done here, as a forked worker's interpreter has frames of its own to return to.
    """
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue] - joins the threads
    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]
    flushed = _flush()
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # the program's own may need its names
    module.__dict__.clear()  # files that the program left open are flushed when they go
    gc.collect()
    return 0 if _flush() and flushed else 120


def _flush() -> bool:
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
    except BaseException:  # noqa: BLE001 - foreign code, which may raise anything
        return False
    return True
