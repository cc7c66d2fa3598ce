"""In processes of their own: what a process computes with is settled before mlx is imported."""

import json
import os
import platform
import subprocess
import sys
from typing import Any

import pytest

TELL = """
import json, sys
from protocol.fingerprint import fingerprint
assert not any(name.partition(".")[0] == "mlx" for name in sys.modules)
{preparation}
print(json.dumps(fingerprint()))
"""


def tell(preparation: str = "", **environment: str) -> dict[str, Any]:
    unset = ("OPENBLAS_NUM_THREADS", "MLX_DISABLE_COMPILE")
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    command = [sys.executable, "-c", TELL.format(preparation=preparation)]
    done = subprocess.run(
        command, env=inherited | environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    return tell()


def test_it_names_everything_in_short_strings_and_twice_the_same(plain):
    wanted = {"system", "machine", "chip", "mlx", "mlx_lm", "device", "blas", "compile"}
    assert wanted <= plain.keys()
    assert all(isinstance(value, str) and 0 < len(value) < 200 for value in plain.values())
    assert len(plain) < 50
    assert plain["machine"] == platform.machine()
    assert plain == tell()


def test_python_is_not_in_it(plain):
    assert not any(platform.python_version() in value for value in plain.values())


def test_a_switched_off_compiler_shows_wherever_it_was_switched_off(plain):
    assert plain["compile"] == "on"
    assert tell(MLX_DISABLE_COMPILE="1")["compile"] == "off"
    assert tell("import mlx.core as mx; mx.disable_compile()")["compile"] == "off"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere BLAS is the system's")
def test_the_threads_of_the_blas_are_those_in_effect(plain):
    assert plain["blas_threads"] == "1"
    many = tell(OPENBLAS_NUM_THREADS="2")
    assert (many["blas"], many["blas_threads"]) == (plain["blas"], "2")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere BLAS is the system's")
def test_another_blas_shows(plain, tmp_path):
    none = tell("import protocol.fingerprint as f; f.preload_blas = lambda: None")
    assert none["blas"] == "mlx's own"
    changed = tell(
        "import pathlib, protocol.fingerprint as f\n"
        "real = pathlib.Path(f.preload_blas())\n"
        f"copy = pathlib.Path({str(tmp_path)!r}, real.name)\n"
        "copy.write_bytes(real.read_bytes() + bytes(1))\n"
        "f.preload_blas = lambda: str(copy)\n"
    )
    assert changed["blas"].split()[0] == plain["blas"].split()[0]
    assert changed["blas"] != plain["blas"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/maps")
def test_a_library_named_without_its_folder_is_found(plain):
    bare = tell(
        "import ctypes, os, protocol.fingerprint as f\n"
        "path = f.preload_blas()\n"
        "f.preload_blas = lambda: os.path.basename(path)\n"
        "f.ctypes.CDLL = lambda name: ctypes.PyDLL(path)\n"
    )
    assert bare["blas"] == plain["blas"]
