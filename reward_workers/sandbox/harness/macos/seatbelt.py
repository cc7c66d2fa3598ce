"""Confinement of this process on macOS: a Seatbelt profile, then resource limits.

Not exercised on a Mac yet: written from Apple's headers, from XNU's source, and from the profiles
that Chromium, Bazel, Nix and Codex ship. The worker's self-test decides whether it holds.

What Seatbelt does not do: it lets socket() make a socket (every use of one is refused); it does not
nest, so that nothing here works inside another sandbox; it bounds no memory, CPU or threads. XNU's
RLIMIT_NPROC counts all processes of a user: useless here, and not needed where fork is refused.
"""

import contextlib
import ctypes
import functools
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

LIBRARIES = ("/usr/lib/libSystem.B.dylib", "/usr/lib/libsandbox.1.dylib")
THREAD_STACK_BYTES = 16 << 20
"""What Python gives a thread on macOS: address space, hardly memory."""
SPARE_BYTES = 128 << 20
"""Address space beyond the candidate's own: malloc's zones, libraries that load late."""
MAX_ADDRESS = 1 << 47

PROFILE = """\
(version 1)
(deny default)

; Denied by default as well: said, so that no rule below can be taken to allow them.
(deny process-fork)
(deny process-exec*)
(deny network*)
(deny mach-lookup)
(deny mach-register)
(deny iokit-open)
(deny ipc-posix*)
(deny ipc-sysv*)
; Not covered by "deny default": arguments and environment of the user's other processes.
(deny process-info*)
(allow process-info* (target self))
(allow signal (target self))

; What Python asks of the machine: pages, CPUs, os.uname(). Never kern.procargs2.
(allow sysctl-read
  (sysctl-name-prefix "hw.")
  (sysctl-name "kern.hostname")
  (sysctl-name "kern.osproductversion")
  (sysctl-name "kern.osrelease")
  (sysctl-name "kern.ostype")
  (sysctl-name "kern.osversion")
  (sysctl-name "kern.usrstack64")
  (sysctl-name "kern.version"))

; System libraries; those of the shared cache are mapped already, but their paths are looked up.
(allow file-read* file-map-executable
  (subpath "/usr/lib")
  (subpath "/System/Library")
  (subpath "/System/Cryptexes/OS")
  (subpath "/System/Volumes/Preboot/Cryptexes/OS"))
(allow file-read*
  (subpath "/usr/share/zoneinfo")
  (subpath "/usr/share/zoneinfo.default")
  (subpath "/private/var/db/timezone")
  (literal "/private/etc/localtime")
  (literal "/dev/null")
  (literal "/dev/zero")
  (literal "/dev/random")
  (literal "/dev/urandom"))
(allow file-write-data (literal "/dev/null"))
; The names in / and its links, which every path lookup needs.
(allow file-read* (literal "/"))
(allow file-read-metadata
  (literal "/etc")
  (literal "/private")
  (literal "/private/etc")
  (literal "/private/var")
  (literal "/tmp")
  (literal "/var"))

; The worker's own folder. No flags, ACLs, owners or extended attributes: they would hinder its
; removal.
(allow file-read*
  (subpath (param "TMP")))
(allow file-write-create file-write-data file-write-mode file-write-times file-write-unlink
  (subpath (param "TMP")))
"""
NO_NETWORK = "(version 1)\n(allow default)\n(deny network*)\n"


class SeatbeltError(OSError):
    """The profile was not applied: this process is not confined."""


def profile(num_readable: int, num_above: int) -> str:
    """Rules for so many readable trees and folders above them; every path is a parameter."""
    lines = [
        "",
        "; Python and packages; realpath() up to them.",
        *(
            f'(allow file-read* file-map-executable (subpath (param "READ_{index}")))'
            for index in range(num_readable)
        ),
        *(
            f'(allow file-read-metadata (literal (param "ABOVE_{index}")))'
            for index in range(num_above)
        ),
        "",
    ]
    return PROFILE + "\n".join(lines)


def folders_above(paths: Sequence[str]) -> list[str]:
    """Every folder that holds one of the paths, the root left out."""
    above = {str(parent) for path in paths for parent in Path(path).parents}
    return sorted(above - {"/"})


def parameters(tmp: str, readable: Sequence[str]) -> dict[str, str]:
    """Names and values of the profile's parameters. Seatbelt judges real paths only.

    Raises:
        SeatbeltError: a readable tree holds the worker's folder, and so other workers' as well.
    """
    trees = sorted({os.path.realpath(path) for path in readable})
    inside = os.path.realpath(tmp)
    for tree in trees:
        if os.path.commonpath([tree, inside]) == tree:
            raise SeatbeltError(f"{tree} would be readable, and holds the folders of all workers")
    above = folders_above([inside, *trees])
    return {
        "TMP": inside,
        **{f"READ_{index}": path for index, path in enumerate(trees)},
        **{f"ABOVE_{index}": path for index, path in enumerate(above)},
    }


def confine(tmp: str, readable: Sequence[str], limits: Mapping[str, Any]) -> None:
    """Confine this process for good.

    Args:
        tmp: the one folder that it may write to.
        readable: trees to read beside the system's libraries and Python's own.
        limits: the fields of jobs.Limits.

    Raises:
        SeatbeltError: it is inside another sandbox, or the profile was refused.
        OSError, ValueError: a limit was refused.
    """
    refuse_inside_a_sandbox()
    values = parameters(tmp, [sys.base_prefix, sys.base_exec_prefix, *readable])
    names = list(values)
    rules = profile(
        sum(name.startswith("READ_") for name in names),
        sum(name.startswith("ABOVE_") for name in names),
    )
    _libraries()  # so that they are loaded before the limits
    set_limits(limits)
    apply(rules, values)


def deny_network() -> None:
    """Take the network from this process, and nothing else, for good.

    Raises:
        SeatbeltError: it is inside another sandbox already.
    """
    refuse_inside_a_sandbox()
    apply(NO_NETWORK, {})


def is_sandboxed() -> bool:
    """Whether this process is inside a Seatbelt sandbox."""
    return bool(_symbol("sandbox_check")(os.getpid(), None, 0))


def refuse_inside_a_sandbox() -> None:
    """Raise SeatbeltError inside another sandbox."""
    if is_sandboxed():
        raise SeatbeltError(
            "this process is inside another Seatbelt sandbox, and they do not nest: start it "
            "from a plain Terminal, not from a sandboxed app or under sandbox-exec"
        )


def apply(rules: str, values: Mapping[str, str]) -> None:
    """Give this process a profile.

    Raises:
        SeatbeltError: the profile was refused.
    """
    message = ctypes.c_char_p()
    array = parameter_array(values)
    init = _symbol("sandbox_init_with_parameters")
    if init(rules.encode(), 0, array, ctypes.byref(message)) != 0:
        said = (message.value or b"no reason given").decode(errors="replace")
        raise SeatbeltError(f"Seatbelt refused the profile: {said}")
    if not is_sandboxed():
        raise SeatbeltError("Seatbelt took the profile, and this process is not confined")


def parameter_array(values: Mapping[str, str]) -> ctypes.Array[ctypes.c_char_p]:
    """C array of names and values in turn, ended by NULL."""
    flat = [os.fsencode(text) for pair in values.items() for text in pair]
    return (ctypes.c_char_p * (len(flat) + 1))(*flat, None)


def missing_symbols() -> list[str]:
    """Functions of libsandbox that this macOS does not have."""
    return [name for name in _SIGNATURES if _find(name) is None]


_SIGNATURES: dict[str, Sequence[Any]] = {
    "sandbox_init_with_parameters": (
        ctypes.c_char_p,
        ctypes.c_uint64,
        ctypes.c_void_p,
        ctypes.c_void_p,
    ),
    # It is variadic after the third; with filter type 0 nothing more is read.
    "sandbox_check": (ctypes.c_int, ctypes.c_char_p, ctypes.c_int),
}


@functools.cache
def _libraries() -> list[ctypes.CDLL]:
    found: list[ctypes.CDLL] = []
    for path in LIBRARIES:
        with contextlib.suppress(OSError):
            found.append(ctypes.CDLL(path, use_errno=True))
    return found


def _find(name: str) -> Callable[..., int] | None:
    for library in _libraries():
        with contextlib.suppress(AttributeError):
            function = getattr(library, name)
            function.argtypes = _SIGNATURES[name]
            return function
    return None


def _symbol(name: str) -> Callable[..., int]:
    function = _find(name)
    if function is None:
        raise SeatbeltError(f"{name} is in none of {', '.join(LIBRARIES)}")
    return function


def set_limits(limits: Mapping[str, Any]) -> None:
    """Give this process its resource limits; the supervisor meters what they cannot bound."""
    cpu = math.ceil(time.process_time() + limits["cpu_seconds"]) + 1
    for name, value in (
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_NOFILE, int(limits["max_fds"])),
        (resource.RLIMIT_FSIZE, int(limits["tmp_bytes"])),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(name, (value, value))
    size = smallest_accepted(accepts_address_space, 0, MAX_ADDRESS)
    bound = size + address_budget(int(limits["memory_bytes"]), int(limits["max_threads"]))
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))


def address_budget(memory_bytes: int, max_threads: int) -> int:
    """Address space on top of the present: what a candidate within its limits could need."""
    return memory_bytes + max_threads * THREAD_STACK_BYTES + SPARE_BYTES


def smallest_accepted(accepts: Callable[[int], bool], low: int, high: int) -> int:
    """Smallest number, to a megabyte, that is accepted, if all greater ones are.

    XNU refuses an RLIMIT_AS below the present size of the map, which is some hundred GB on Apple
    silicon; the size that proc_pidinfo tells leaves reserved regions out. So the limit itself is
    asked.
    """
    while high - low > 1 << 20:
        middle = (low + high) // 2
        if accepts(middle):
            high = middle
        else:
            low = middle
    return high


def accepts_address_space(num_bytes: int) -> bool:
    """Whether the soft limit may be so low; it is put back before anything is allocated."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (num_bytes, hard))
    except (ValueError, OSError):  # Python says ValueError for EINVAL
        return False
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return True
