"""The end of a child whose worker has ended, even while C code holds Python's lock in the child.

The child holds one end of a socket pair on which nothing is ever said. When the worker ends, in
whatever way, the kernel sends SIGIO, whose handler is the C library's own `_exit`: no Python runs.
"""

import ctypes
import fcntl
import os
import signal

from protocol.process import die_with_parent


def end_with(lifeline: int) -> None:
    """End this process when the other end of a socket pair is closed; on Linux by SIGKILL, too.

    Args:
        lifeline: descriptor of a stream socket.
    """
    die_with_parent()
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc.signal.restype = ctypes.c_void_p
    libc.signal(int(signal.SIGIO), ctypes.cast(libc._exit, ctypes.c_void_p))
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)
