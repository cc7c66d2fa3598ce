"""What changes the last bits of a float: peers of a deterministic run must have it in common."""

# pyright: standard, reportMissingTypeStubs=false
# (much of mlx is untyped)

import ctypes
import hashlib
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from protocol.blas import preload_blas

_DIGEST_CHARACTERS = 12
_VECTOR_UNITS = ("avx2", "avx512f", "fma")
"""By these glibc chooses between its exp and log, which differ in their last bits."""


def fingerprint() -> dict[str, str]:
    """Name the hardware and software that this process computes with, for comparison as a whole.

    Python, the operating system's build and the dtypes are not in it: no result depends on the
    first two, and the run's config says the third.

    Returns:
        system (with the version of its mathematical library), machine, chip, mlx, mlx_lm, device,
        blas (file and digest), blas_kernels, blas_threads (as in effect), compile, and compiler
        where compiled functions run on the CPU.
    """
    blas = _blas()  # before mlx
    import mlx.core as mx

    device, compiled = mx.default_device().type.name, _is_compiling()
    about = mx.device_info()
    found = {
        "system": _system(),
        "machine": platform.machine(),
        "chip": _chip(),
        "mlx": version("mlx"),
        "mlx_lm": version("mlx-lm"),
        "device": f"{device} {about.get('architecture', '')} {about.get('device_name', '')}",
        **blas,
        "compile": "on" if compiled else "off",
    }
    if compiled and device == "cpu":
        found["compiler"] = _first_line("g++", "--version")
    return found


def _system() -> str:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    return " ".join((platform.system(), *platform.libc_ver())).strip()


def _chip() -> str:
    if sys.platform == "darwin":
        return _first_line("/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string")
    facts: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    name = facts.get("model name") or f"{facts.get('CPU implementer')} {facts.get('CPU part')}"
    return " ".join((name, *(unit for unit in _VECTOR_UNITS if unit in facts.get("flags", ""))))


def _blas() -> dict[str, str]:
    library = preload_blas()
    if library is None:  # the system's or mlx's own, and their versions are told
        return {"blas": "Accelerate" if sys.platform == "darwin" else "mlx's own"}
    path = _mapped(library)
    loaded = ctypes.CDLL(library)
    loaded.openblas_get_config.restype = ctypes.c_char_p
    loaded.openblas_get_num_threads.restype = ctypes.c_int
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:_DIGEST_CHARACTERS]
    return {
        "blas": f"{path.name} {digest}",
        "blas_kernels": loaded.openblas_get_config().decode(),
        "blas_threads": str(loaded.openblas_get_num_threads()),
    }


def _mapped(library: str) -> Path:
    """Return the file of a loaded library, which may have been named without its folder (Linux)."""
    if Path(library).is_absolute():
        return Path(library)
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = Path(line.split(maxsplit=5)[-1])
        if path.is_absolute() and path.name.startswith(Path(library).name.partition(".")[0]):
            return path
    return Path(library)


def _is_compiling() -> bool:
    """Whether mx.compile compiles: a compiled function's body is not run for every call."""
    import mlx.core as mx

    calls: list[int] = []

    def body(x: mx.array) -> mx.array:
        calls.append(1)
        return x

    compiled, argument = mx.compile(body), mx.array(0.0)
    for _ in range(3):  # it may be traced twice
        compiled(argument)
    return len(calls) < 3


def _first_line(command: str, *arguments: str) -> str:
    path = shutil.which(command)
    if path is None:
        return f"no {command}"
    done = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)  # noqa: S603 - of this machine
    return done.stdout.partition("\n")[0].strip()
