"""A worker on macOS, from its start to its job: confine, try to escape, say ready, serve.

Not exercised on a Mac yet. Its one argument is JSON: {"channel": fd, "tmp": folder, "harness": zip,
"packages": tree or null, "limits": {fields of jobs.Limits}}.
"""

import contextlib
import ctypes
import functools
import gc
import json
import os
import random
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reward_workers.sandbox.harness import frames, worker
from reward_workers.sandbox.harness.macos import seatbelt

CTL_KERN, KERN_PROCARGS2 = 1, 49
"""sysctl of a process's arguments and environment."""


class EscapeError(Exception):
    """A confined worker could do what it must not, or could not do what it must."""


def main(argument: str) -> None:
    """Be a worker."""
    settings: dict[str, Any] = json.loads(argument)
    channel = socket.socket(fileno=settings["channel"])
    channel.setblocking(True)
    try:
        worker.preload()
        settle(settings)
        confine(settings)
    except (OSError, ValueError, EscapeError) as error:
        fault = {"fault": f"{type(error).__name__}: {error}"}
        frames.send(channel, fault, frames.MAX_FROM_WORKER)
        os._exit(1)
    frames.send(channel, {"ready": True}, frames.MAX_FROM_WORKER)
    worker.serve(channel)


def settle(settings: Mapping[str, Any]) -> None:
    """No trace of the harness in the search path and the arguments."""
    harness = settings["harness"]
    sys.path[:] = [place for place in sys.path if place != harness]
    sys.path_importer_cache.pop(harness, None)
    if settings["packages"]:
        sys.path.append(settings["packages"])
    sys.argv = [""]
    os.chdir(settings["tmp"])


def confine(settings: Mapping[str, Any]) -> None:
    """Confine this process for good, and try whether that holds.

    Raises:
        SeatbeltError: the profile was not applied.
        EscapeError: the confined process could do what it must not.
    """
    packages = [settings["packages"]] if settings["packages"] else []
    libc, parent = ctypes.CDLL(None, use_errno=True), os.getppid()
    seatbelt.confine(settings["tmp"], packages, settings["limits"])
    hidden = ("/etc/passwd", settings["harness"])
    check(settings["tmp"], hidden, lambda: read_arguments(libc, parent))
    random.seed(0)  # one program, one verdict
    gc.collect(0)


def check(tmp: str, hidden: Sequence[str], read_parents_arguments: Callable[[], object]) -> None:
    """Try what must fail, then what must work.

    Raises:
        EscapeError: it was the other way round; the message names the deed.
    """
    for deed, attempt in (
        *((f"read {path}", functools.partial(os.open, path, os.O_RDONLY)) for path in hidden),
        ("list the folder above its own", lambda: os.listdir(os.path.dirname(tmp))),
        ("send a datagram", _send_datagram),
        ("connect to a port", connect_to_a_port),
        ("listen at a path", _listen),
        ("fork", _fork),
        ("start a program", lambda: os.posix_spawn("/usr/bin/true", ["true"], {})),
        ("write in /tmp", lambda: _write("/private/tmp")),
        ("write in /var/tmp", lambda: _write("/private/var/tmp")),
        ("write beside its folder", lambda: _write(os.path.dirname(tmp))),
        ("signal its parent", lambda: os.kill(os.getppid(), 0)),
        ("read its parent's arguments", read_parents_arguments),
    ):
        with contextlib.suppress(OSError):
            attempt()
            raise EscapeError(f"a confined worker could {deed}")
    for deed, attempt in (
        ("write in its own folder", lambda: _write(tmp)),
        ("ask what system this is", os.uname),
        ("start a thread", _start_thread),
    ):
        try:
            attempt()
        except (OSError, RuntimeError) as error:
            raise EscapeError(f"a confined worker could not {deed}: {error}") from None


def _send_datagram() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", 9))


def connect_to_a_port() -> None:
    """Refused by Seatbelt or by nobody listening: only the first is confinement."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as caller:
        try:
            caller.connect(("127.0.0.1", 9))
        except ConnectionRefusedError:
            return


def _listen() -> None:
    """By a short name, in the working folder: a socket's path holds 104 bytes at most."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind("selftest.sock")


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _write(folder: str) -> None:
    path = f"{folder}/.selftest-{os.getpid()}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    os.unlink(path)


def _start_thread() -> None:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()


def read_arguments(libc: ctypes.CDLL, pid: int) -> None:
    """Read another process's arguments and environment, as ps does.

    Raises:
        OSError: it was refused.
    """
    name = (ctypes.c_int * 3)(CTL_KERN, KERN_PROCARGS2, pid)
    buffer, size = ctypes.create_string_buffer(1 << 16), ctypes.c_size_t(1 << 16)
    if libc.sysctl(name, len(name), buffer, ctypes.byref(size), None, ctypes.c_size_t(0)) != 0:
        raise OSError(ctypes.get_errno(), "sysctl")
