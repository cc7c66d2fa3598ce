"""What a confined worker tries before it says that it is ready: each deed must fail."""

import contextlib
import os
import socket
from collections.abc import Callable

from reward_workers.sandbox.harness.linux.syscalls import Kernel


class EscapeError(Exception):
    """A confined worker could do what it must not, or could not do what it must."""


def check(kernel: Kernel, *, tmp: str, hidden: tuple[str, ...]) -> None:
    """Try the deeds, and one that is allowed: writing in `tmp`.

    Args:
        kernel: for a call that Python has no function for.
        tmp: the worker's own folder.
        hidden: files that exist, or may exist, and must not be readable.

    Raises:
        EscapeError: one was possible; the message names it.
    """
    elsewhere = next(folder for folder in ("/var/tmp", "/tmp") if folder != tmp)  # noqa: S108
    for path in hidden:
        _must_fail(f"read {path}", lambda path=path: os.close(os.open(path, os.O_RDONLY)))
    _must_fail("open a socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close())
    _must_fail("fork", _fork)
    _must_fail("write outside its folder", lambda: _write(elsewhere))
    _must_fail("write in /", lambda: _write("/"))
    _must_fail("signal its parent", lambda: os.kill(os.getppid(), 0))
    _must_fail("make a namespace", lambda: kernel.call("unshare", 0x10000000))
    try:
        _write(tmp)
    except OSError as error:
        raise EscapeError(f"a confined worker cannot write in its own folder: {error}") from None


def _must_fail(deed: str, attempt: Callable[[], object]) -> None:
    with contextlib.suppress(OSError):
        attempt()
        raise EscapeError(f"a confined worker could {deed}")


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _write(folder: str) -> None:
    path = f"{folder}/.selftest"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    os.unlink(path)
