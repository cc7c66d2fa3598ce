"""Rivals in venvs of their own: made once, pinned, kept in the cache folder."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

STAMP = "installed.json"
PYTHONS = ("python3.12", "python3.13", "python3.14", "python3")


@dataclass(frozen=True)
class Rival:
    """A package that trains by itself."""

    package: str
    version: str
    script: str
    """Runs a job; beside this file."""
    least_python: tuple[int, int]

    @property
    def name(self) -> str:
        """For results."""
        return f"{self.package} {self.version}"

    @property
    def script_path(self) -> Path:
        """To be run by `python_of`."""
        return Path(__file__).with_name(self.script)

    def requirements(self) -> list[str]:
        """The package, and the very mlx and mlx-lm that our roles run on."""
        mlx = "mlx[cpu]" if sys.platform == "linux" else "mlx"
        ours = [f"{mlx}=={version('mlx')}", f"mlx-lm=={version('mlx-lm')}"]
        return [f"{self.package}=={self.version}", *ours]


MLX_LM_LORA = Rival("mlx-lm-lora", "5.10.2", "run_mlx_lm_lora.py", (3, 11))
TEXTPOLICY = Rival("textpolicy", "0.1.11", "run_textpolicy.py", (3, 12))


def cache_folder() -> Path:
    """Where rivals, and models in the form that they need, are kept."""
    named = os.environ.get("MLX_RL_CACHE")
    base = Path(named).expanduser() if named else Path.home() / ".cache/mlx-rl-trainer"
    return base / "rivals"


def python_of(rival: Rival) -> Path:
    """The Python of a rival's venv, made on the first call (about a minute and 1 GB).

    Raises:
        RuntimeError: no Python is new enough for it, or pip could not install it.
    """
    folder = cache_folder() / f"{rival.package}-{rival.version}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_installed(folder, rival):
            _install(folder, rival)
    return folder / "bin" / "python"


def _is_installed(folder: Path, rival: Rival) -> bool:
    try:
        return json.loads((folder / STAMP).read_text()) == rival.requirements()
    except (OSError, ValueError):
        return False


def _install(folder: Path, rival: Rival) -> None:
    python = _usable(rival.least_python, _candidates())
    if python is None:
        least = ".".join(map(str, rival.least_python))
        raise RuntimeError(f"{rival.name} needs Python {least} or newer, and none was found")
    print(f"installing {rival.name} into {folder} with {python}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([python, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    done = subprocess.run([*pip, *rival.requirements()], capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["pip said nothing"]
        raise RuntimeError(f"pip could not install {rival.name}: {last[0]}")
    (folder / STAMP).write_text(json.dumps(rival.requirements()))


def _candidates() -> Iterable[str]:
    yield sys.executable
    yield from filter(None, map(shutil.which, PYTHONS))
    for folder in sorted(Path.home().glob(".pyenv/versions/3.*")):  # a shim may lead to none
        yield str(folder / "bin" / "python")


def _usable(least: tuple[int, int], candidates: Iterable[str]) -> str | None:
    """The first that runs, is new enough and can make a venv."""
    check = f"import ensurepip, sys, venv; sys.exit(sys.version_info < {least})"
    for python in candidates:
        try:
            if subprocess.run([python, "-c", check], capture_output=True).returncode == 0:
                return python
        except OSError:
            continue
    return None
